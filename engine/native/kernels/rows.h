// Products of weights with one token or a few, row by row: what a single stream and short drafts wait for. Each weight is
// read once, so nothing is packed; what counts is how few instructions a block takes, and that the next rows are on their
// way from memory.
#pragma once
#include "host.h"
#include "tiles.h"

constexpr size_t AHEAD = 4096;  // bytes

static inline void fetch(const void *from, size_t size) {
    for (size_t i = 0; i < size; i += 64) _mm_prefetch((const char *) from + i, _MM_HINT_T0);
}

static inline __m256i nibbles(const uint8_t *qs) {
    __m256i x = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) qs));
    return _mm256_and_si256(_mm256_srlv_epi32(x, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4)), bytes(15));
}
static inline __m256i quants(const block_q4_0 &b) { return nibbles(b.qs); }
static inline __m256i quants(const block_q5_0 &b) {
    int32_t h;
    memcpy(&h, b.qh, 4);
    const __m256i at = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long) 0x8040201008040201);
    __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(h), at), bit), bit);
    return _mm256_or_si256(nibbles(b.qs), _mm256_and_si256(set, bytes(16)));
}

static inline __m256i valued(const uint8_t *qs, __m128i values) { return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), nibbles(qs)); }
static inline __m256i quants(const block_mxfp4 &b) { return valued(b.qs, mxfp4_values()); }
static inline __m256i quants(const block_iq4_nl &b) { return valued(b.qs, iq4_values()); }
static inline __m256i quants(const block_q8_0 &b) { return _mm256_loadu_si256((const __m256i *) b.qs); }

// Eight sums of four products of bytes, of which the first must not be signed.
static inline __m256i fours(__m256i a, __m256i b) {
#ifdef __AVX512VNNI__
    return _mm256_dpbusd_epi32(_mm256_setzero_si256(), a, b);
#else
    return _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1));
#endif
}

// Eight sums of products of 32 weights, as their bytes are: without their offset.
template <bool signs> static inline __m256 dot(__m256i weights, const block_q8_0 &x) {
    const __m256i q = _mm256_loadu_si256((const __m256i *) x.qs);
    return _mm256_cvtepi32_ps(signs ? fours(_mm256_abs_epi8(weights), _mm256_sign_epi8(q, weights)) : fours(weights, q));
}

// Eight sums of products of 32 weights and quants, times their scales, each of which stands there for two weights.
static inline __m256i scaled(__m256i weights, const int8_t *quants, __m256i scales) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(weights, _mm256_loadu_si256((const __m256i *) quants)), scales);
}

// The scales of four blocks, and of one.
template <class Block> static inline __m128 scales(const Block *w) {
    uint16_t h[4];
    for (int i = 0; i < 4; i++) memcpy(&h[i], &w[i].d, 2);
    return _mm_cvtph_ps(_mm_setr_epi16(h[0], h[1], h[2], h[3], 0, 0, 0, 0));
}
template <class Block> static inline float scale(const Block &w) { return _cvtsh_ss(w.d); }
static inline float scale(const block_mxfp4 &w) { return half_power(w.e); }
static inline __m128 scales(const block_mxfp4 *w) {
    const __m128i e = _mm_setr_epi32(w[0].e, w[1].e, w[2].e, w[3].e), two = _mm_set1_epi32(2);
    const __m128i normal = _mm_slli_epi32(_mm_sub_epi32(e, _mm_set1_epi32(1)), 23), small = _mm_sllv_epi32(_mm_set1_epi32(0x00200000), e);
    return _mm_castsi128_ps(_mm_blendv_epi8(normal, small, _mm_cmplt_epi32(e, two)));
}

static inline float total(__m256 x) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_movehdup_ps(y)));
}

// Rows by jobs, long ones: memory is read faster where each thread reads on for a while. `row` multiplies one row with N
// tokens.
template <int N, class Row> static inline bool each_row(const Product &p, size_t stride, Row row) {
    const int64_t share = p.m / (4 * p.params->nth), per = share > 32 ? share : 32;  // rows of a job
    float *to[N], sums[N];
    for (int t = 0; t < N; t++) to[t] = p.results(t);
    p.begin();
    p.meet();
    for (int64_t job = p.params->ith; job * per < p.m; job = p.next(job)) {
        for (int64_t i = job * per; i < least(p.m, (job + 1) * per); i++) {
            row((const char *) p.A + i * stride, sums);
            for (int t = 0; t < N; t++) to[t][i] = sums[t];
        }
    }
    p.meet();
    return true;
}

// The tokens of a product, as blocks.
template <class Token, int N> struct Few {
    const Token *x[N];
    explicit Few(const Product &p) {
        for (int t = 0; t < N; t++) x[t] = p.token<Token>(t);
    }
};

// Formats with a scale for each 32 columns.
template <class F> struct SimpleRows {
    typedef typename F::block Block;
    static constexpr int few = 3;  // with more tokens panels are faster

    // Of each block of a token: its scale d, and `offset`, the sum of its quants times the offset of the weights.
    template <int N>
    static inline void row(const Block *w, int64_t k, const Few<block_q8_0, N> &few, const float *d, const float *offset, float *sums) {
        __m256 even[N], odd[N];
        __m128 below[N];
        for (int t = 0; t < N; t++) even[t] = odd[t] = _mm256_setzero_ps(), below[t] = _mm_setzero_ps();
        int64_t b = 0;
        for (; b + 4 <= k; b += 4) {
            fetch((const char *) (w + b) + AHEAD, 4 * sizeof *w);
            const __m128 own = scales(w + b);
            __m128 s[N];
            for (int t = 0; t < N; t++) {
                s[t] = _mm_mul_ps(own, _mm_loadu_ps(d + t * k + b));
                if (F::offset) below[t] = _mm_fmadd_ps(s[t], _mm_loadu_ps(offset + t * k + b), below[t]);
            }
            const auto add = [&](int i, auto scale, __m256 *to) {
                const __m256i q = quants(w[b + i]);
                for (int t = 0; t < N; t++) to[t] = _mm256_fmadd_ps(dot<F::signs>(q, few.x[t][b + i]), scale(s[t]), to[t]);
            };
            add(0, [](__m128 x) { return _mm256_broadcastss_ps(x); }, even);
            add(1, [](__m128 x) { return _mm256_broadcastss_ps(_mm_permute_ps(x, 0x55)); }, odd);
            add(2, [](__m128 x) { return _mm256_broadcastss_ps(_mm_permute_ps(x, 0xaa)); }, even);
            add(3, [](__m128 x) { return _mm256_broadcastss_ps(_mm_permute_ps(x, 0xff)); }, odd);
        }
        for (; b < k; b++) {
            const __m256i q = quants(w[b]);
            for (int t = 0; t < N; t++) {
                const float s = scale(w[b]) * d[t * k + b];
                even[t] = _mm256_fmadd_ps(dot<F::signs>(q, few.x[t][b]), _mm256_set1_ps(s), even[t]);
                if (F::offset) below[t] = _mm_add_ss(below[t], _mm_set_ss(s * offset[t * k + b]));
            }
        }
        for (int t = 0; t < N; t++) sums[t] = total(_mm256_sub_ps(_mm256_add_ps(even[t], odd[t]), _mm256_zextps128_ps256(below[t])));
    }

    template <int N> static bool by(const Product &p) {
        static thread_local Buffer<float> buffer;
        const Few<block_q8_0, N> few(p);
        const int64_t k = p.k;
        float *d = buffer.get(2 * N * k), *offset = d + N * k;
        for (int t = 0; t < N; t++) {
            for (int64_t b = 0; b < k; b++) {
                d[t * k + b] = _cvtsh_ss(few.x[t][b].d);
                offset[t * k + b] = F::offset ? (float) (F::offset * sum_of(few.x[t][b])) : 0;
            }
        }
        return each_row<N>(p, p.lda * sizeof(Block), [&](const char *w, float *sums) { row<N>((const Block *) w, k, few, d, offset, sums); });
    }
};

// Products with up to N tokens.
template <class Rows, int N = Rows::few> static bool by_rows(const Product &p) {
    if constexpr (N > 1)
        if (p.n < N) return by_rows<Rows, N - 1>(p);
    return Rows::template by<N>(p);
}
