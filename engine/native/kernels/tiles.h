// Products of a strip's rows of weights with a few tokens, in registers. The method is the usual one of a blocked matrix
// product (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008): a packed panel of weights
// that stays in the cache, and a small tile of results that stays in registers.
#pragma once
#include "blocks.h"

constexpr int TOKENS = VNNI ? 8 : 4;  // of a tile: as many as registers hold the sums of

// With VNNI weights must not have signs: signed bytes are this much more in a panel.
constexpr int UNSIGNED = 128;

// For each 32 columns of some tokens: the scale, and the sum of the quants times what the weights are more in a panel.
struct alignas(16) Column { float d[TOKENS]; int32_t offset[TOKENS]; };

// Blocks of a strip's rows, k of each row, into panels; `one` unpacks a block of all rows.
template <class Block, class Panel, class One> static inline void unpack_blocks(const Block *b, size_t stride, int64_t k, Panel *p, One one) {
    const char *ahead = (const char *) b + 2 * ROWS * stride;  // most likely what comes next but one; the nearest cache is full of the panel
    for (int64_t i = 0; i < k; i++) {
        for (size_t j = 0; j < ROWS * sizeof(Block); j += 64) _mm_prefetch(ahead + i * ROWS * sizeof(Block) + j, _MM_HINT_T1);
        one(b + i, p[i]);
    }
}

static inline void without_signs(Strip &s) {
    for (Lanes &w : s.w) w ^= every_byte(UNSIGNED);
}

// The sum of 32 quants.
static inline int32_t sum_of(const block_q8_0 &x) {
    const __m256i pairs = _mm256_maddubs_epi16(bytes(1), _mm256_loadu_si256((const __m256i *) x.qs));
    const __m256i v = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
    __m128i w = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    w = _mm_add_epi32(w, _mm_shuffle_epi32(w, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(w, _mm_shuffle_epi32(w, 0xb1)));
}

#ifndef __AVX512VNNI__
// Products of signed weights: both factors of a maddubs must not be signed.
static inline Lanes signed_dots(Lanes weights, Lanes magnitudes, Lanes quants) {
    return _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(quants, weights));
}
static inline Lanes magnitudes(Lanes weights) { return _mm256_abs_epi8(weights); }
#endif

template <class F> struct Simple {
    typedef typename F::block block;
    typedef block_q8_0 activation, factor;
    static constexpr int rows = ROWS, tokens = TOKENS;
    static constexpr int offset = VNNI && F::signs ? UNSIGNED : F::offset;
    static constexpr bool columns = true;
    static constexpr int64_t most = INT64_MAX;
    struct Panel { Strip s; Reals d; };

    static inline void unpack(const block *rows, size_t stride, int64_t k, Panel *to) {
        unpack_blocks(rows, stride, k, to, [=](const block *b, Panel &p) {
            F::unpack(b, stride, p.s);
            if (VNNI && F::signs) without_signs(p.s);
            p.d = F::scales(b, stride);
        });
    }

    static inline void column(const activation *const *tokens, int n, Column &c) {
        for (int t = 0; t < TOKENS; t++) {
            const activation *x = tokens[t < n ? t : 0];
            c.d[t] = _cvtsh_ss(x->d);
            c.offset[t] = offset ? offset * sum_of(*x) : 0;
        }
    }

    template <int N>
    static inline void multiply(const Panel *p, int64_t k, const activation *const *tokens, const Column *c, Reals *out) {
        constexpr int together = VNNI ? 8 : 4;  // of weights up to 31 four products fit into 16 bits
        Reals f[N];
        for (int t = 0; t < N; t++) f[t] = Reals{};
        for (int64_t b = 0; b < k; b++) {
            Lanes sum[N];
            if constexpr (offset != 0) {
                for (int h = 0; h < 8; h += together) {
                    Lanes x[N];
                    for (int g = h; g < h + together; g++) {
                        const Lanes w = p[b].s.w[g];
                        for (int t = 0; t < N; t++) {
                            const Lanes q = repeated(tokens[t][b].qs + 4 * g);
                            x[t] = g == h ? dots(w, q) : more_dots(x[t], w, q);
                        }
                    }
                    for (int t = 0; t < N; t++) sum[t] = h ? added(sum[t], whole(x[t])) : subtracted(whole(x[t]), repeated(c[b].offset[t]));
                }
            }
#ifndef __AVX512VNNI__
            else {
                for (int t = 0; t < N; t++) sum[t] = Lanes{};
                for (int g = 0; g < 8; g++) {
                    const Lanes w = p[b].s.w[g], m = magnitudes(w);
                    for (int t = 0; t < N; t++) sum[t] = added(sum[t], whole(signed_dots(w, m, repeated(tokens[t][b].qs + 4 * g))));
                }
            }
#endif
            for (int t = 0; t < N; t++) f[t] = fused(of_ints(sum[t]), p[b].d * repeated(c[b].d[t]), f[t]);
        }
        for (int t = 0; t < N; t++) out[t] = f[t];
    }
};

// Formats with blocks of 256 columns.
template <class F> struct Super {
    typedef typename F::block block;
    typedef block_q8_k activation, factor;
    static constexpr int rows = ROWS, tokens = TOKENS;
    static constexpr bool columns = false;
    static constexpr int64_t most = INT64_MAX;
    struct Panel { Strip s[8]; typename F::Scales scales; };

    static inline void unpack(const block *rows, size_t stride, int64_t k, Panel *to) {
        unpack_blocks(rows, stride, k, to, [=](const block *b, Panel &p) { F::unpack(b, stride, p.s, p.scales); });
    }
};

// The sum of products of weights with quants, n groups of four columns from `column` on, times a scale, added to `sum`.
template <int N, int together, class Token>
static inline void add_scaled(const Lanes *w, int n, Lanes scale, const Token *const *tokens, int64_t b, int column, Lanes *sum) {
    for (int h = 0; h < n; h += together) {
        Lanes x[N];
        for (int g = h; g < h + together; g++) {
            for (int t = 0; t < N; t++) {
                const Lanes q = repeated(tokens[t][b].qs + column + 4 * g);
                x[t] = g == h ? dots(w[g], q) : more_dots(x[t], w[g], q);
            }
        }
        for (int t = 0; t < N; t++) sum[t] = added(sum[t], scaled(x[t], scale));
    }
}

// Q4_K and Q5_K: d * scale * q - dmin * minimum. `fits`: how many products of a weight fit into 16 bits.
template <class F, int fits> struct WithMinima : Super<F> {
    typedef typename Super<F>::Panel Panel;
    typedef typename Super<F>::activation activation;

    template <int N>
    static inline void multiply(const Panel *p, int64_t k, const activation *const *tokens, const Column *, Reals *out) {
        Reals f[N];
        for (int t = 0; t < N; t++) f[t] = Reals{};
        for (int64_t b = 0; b < k; b++) {
            const auto &scales = p[b].scales;
            Lanes sum[N], least[N];
            for (int t = 0; t < N; t++) sum[t] = least[t] = Lanes{};
            for (int i = 0; i < 8; i++) add_scaled<N, VNNI ? 8 : fits>(p[b].s[i].w, 8, scales.scale[i], tokens, b, 32 * i, sum);
            for (int i = 0; i < 8; i++)
                for (int t = 0; t < N; t++) least[t] = with_pairs(least[t], scales.minimum[i], repeated(tokens[t][b].sums + 2 * i));
            for (int t = 0; t < N; t++) {
                const Reals d = repeated(tokens[t][b].d);
                f[t] = fused(of_ints(sum[t]), scales.d * d, f[t]);
                f[t] = fused_less(of_ints(least[t]), scales.dmin * d, f[t]);
            }
        }
        for (int t = 0; t < N; t++) out[t] = f[t];
    }
};

// Formats with a scale for each 16 columns: d * scale * (q - offset), or d * scale * q - dmin * minimum.
template <class F> struct Sixteens : Super<F> {
    typedef typename Super<F>::Panel Panel;
    typedef typename Super<F>::activation activation;

    template <int N>
    static inline void multiply(const Panel *p, int64_t k, const activation *const *tokens, const Column *, Reals *out) {
        Reals f[N];
        for (int t = 0; t < N; t++) f[t] = Reals{};
        for (int64_t b = 0; b < k; b++) {
            const auto &scales = p[b].scales;
            Lanes sum[N], less[N];
            for (int t = 0; t < N; t++) sum[t] = less[t] = Lanes{};
            for (int i = 0; i < 16; i++) add_scaled<N, VNNI ? 4 : F::together>(p[b].s[i / 2].w + i % 2 * 4, 4, scales.scale[i], tokens, b, 16 * i, sum);
            for (int i = 0; i < 8; i++)
                for (int t = 0; t < N; t++) less[t] = with_pairs(less[t], scales.less[i], repeated(tokens[t][b].sums + 2 * i));
            for (int t = 0; t < N; t++) {
                const Reals d = repeated(tokens[t][b].d);
                if (!F::minima) sum[t] = subtracted(sum[t], (Lanes) ((Ints) less[t] << F::shift));
                f[t] = fused(of_ints(sum[t]), scales.d * d, f[t]);
                if (F::minima) f[t] = fused_less(of_ints(less[t]), scales.dmin * d, f[t]);
            }
        }
        for (int t = 0; t < N; t++) out[t] = f[t];
    }
};

// IQ4_XS: d * scale * q, weights are signed bytes.
struct Signed : Super<IQ4_XS> {
    static inline void unpack(const block *rows, size_t stride, int64_t k, Panel *to) {
        Super<IQ4_XS>::unpack(rows, stride, k, to);
        for (int64_t b = 0; VNNI && b < k; b++)
            for (Strip &s : to[b].s) without_signs(s);
    }

    template <int N>
    static inline void multiply(const Panel *p, int64_t k, const activation *const *tokens, const Column *, Reals *out) {
        Reals f[N];
        for (int t = 0; t < N; t++) f[t] = Reals{};
        for (int64_t b = 0; b < k; b++) {
            const auto &scales = p[b].scales;
            Lanes sum[N];
            for (int t = 0; t < N; t++) sum[t] = Lanes{};
#ifdef __AVX512VNNI__
            for (int i = 0; i < 8; i++)
                for (int t = 0; t < N; t++) sum[t] = with_pairs(sum[t], scales.scale[i], repeated(tokens[t][b].sums + 2 * i));
            for (int t = 0; t < N; t++) sum[t] = (Lanes) ((Ints) sum[t] * -UNSIGNED);
            for (int i = 0; i < 8; i++) add_scaled<N, 8>(p[b].s[i].w, 8, scales.scale[i], tokens, b, 32 * i, sum);
#else
            for (int i = 0; i < 8; i++) {
                for (int g = 0; g < 8; g++) {
                    const Lanes w = p[b].s[i].w[g], m = magnitudes(w);
                    for (int t = 0; t < N; t++) {
                        const Lanes q = repeated(tokens[t][b].qs + 32 * i + 4 * g);
                        sum[t] = added(sum[t], scaled(signed_dots(w, m, q), scales.scale[i]));
                    }
                }
            }
#endif
            for (int t = 0; t < N; t++) f[t] = fused(of_ints(sum[t]), scales.d * repeated(tokens[t][b].d), f[t]);
        }
        for (int t = 0; t < N; t++) out[t] = f[t];
    }
};
