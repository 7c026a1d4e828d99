// Products of weights with one token, row by row: what a single stream waits for. Each weight is read once, so nothing is
// brought side by side; what counts is how few instructions a block takes, and that the next rows are on their way from
// memory.
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

// Rows by jobs, long ones: memory is read faster where each thread reads on for a while. `row`: the product of one row.
template <class Row> static inline bool each_row(const Product &p, size_t stride, Row row) {
    const int64_t share = p.m / (4 * p.params->nth), per = share > 32 ? share : 32;  // rows of a job
    float *to = p.results(0);
    p.begin();
    p.meet();
    for (int64_t job = p.params->ith; job * per < p.m; job = p.next(job)) {
        for (int64_t i = job * per; i < least(p.m, (job + 1) * per); i++) to[i] = row((const char *) p.A + i * stride);
    }
    p.meet();
    return true;
}

// Formats with a scale for each 32 columns.
template <class F> struct SimpleRows {
    typedef typename F::block Block;

    // Of each block of the token: its scale d, and `offset`, the sum of its quants times the offset of the weights.
    static inline float row(const Block *w, int64_t k, const block_q8_0 *x, const float *d, const float *offset) {
        __m256 even = _mm256_setzero_ps(), odd = _mm256_setzero_ps();
        __m128 below = _mm_setzero_ps();
        int64_t b = 0;
        for (; b + 4 <= k; b += 4) {
            fetch((const char *) (w + b) + AHEAD, 4 * sizeof *w);
            const __m128 s = _mm_mul_ps(scales(w + b), _mm_loadu_ps(d + b));
            if (F::offset) below = _mm_fmadd_ps(s, _mm_loadu_ps(offset + b), below);
            const auto add = [&](int i, __m256 scale, __m256 to) { return _mm256_fmadd_ps(dot<F::signs>(quants(w[b + i]), x[b + i]), scale, to); };
            even = add(0, _mm256_broadcastss_ps(s), even);
            odd = add(1, _mm256_broadcastss_ps(_mm_permute_ps(s, 0x55)), odd);
            even = add(2, _mm256_broadcastss_ps(_mm_permute_ps(s, 0xaa)), even);
            odd = add(3, _mm256_broadcastss_ps(_mm_permute_ps(s, 0xff)), odd);
        }
        for (; b < k; b++) {
            const float s = scale(w[b]) * d[b];
            even = _mm256_fmadd_ps(dot<F::signs>(quants(w[b]), x[b]), _mm256_set1_ps(s), even);
            if (F::offset) below = _mm_add_ss(below, _mm_set_ss(s * offset[b]));
        }
        return total(_mm256_sub_ps(_mm256_add_ps(even, odd), _mm256_zextps128_ps256(below)));
    }

    static bool multiply(const Product &p) {
        static thread_local Buffer<float> buffer;
        const auto *x = p.token<block_q8_0>(0);
        const int64_t k = p.k;
        float *d = buffer.get(2 * k), *offset = d + k;
        for (int64_t b = 0; b < k; b++) {
            d[b] = _cvtsh_ss(x[b].d);
            offset[b] = F::offset ? (float) (F::offset * sum_of(x[b])) : 0;
        }
        return each_row(p, p.lda * sizeof(Block), [&](const char *w) { return row((const Block *) w, k, x, d, offset); });
    }
};
