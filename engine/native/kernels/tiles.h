// Products of eight rows of weights with up to four tokens, in registers. The method is the usual one of a blocked matrix
// product (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008): a packed panel of weights
// that stays in the cache, and a small tile of results that stays in registers.
#pragma once
#include "blocks.h"

constexpr int TOKENS = 4;  // of a tile

static inline __m256i repeated(const void *four_bytes) {
    int32_t x;
    memcpy(&x, four_bytes, 4);
    return _mm256_set1_epi32(x);
}

// For each 32 columns of up to four tokens: the scale, and the sum of the quants times the weights' offset.
struct alignas(16) Column { float d[TOKENS]; int32_t offset[TOKENS]; };

// Blocks of eight rows, k of each row, into panels; `one` unpacks a block of all rows.
template <class Block, class Panel, class One> static inline void unpack_blocks(const Block *b, size_t stride, int64_t k, Panel *p, One one) {
    const char *ahead = (const char *) b + ROWS * stride;  // most likely what comes next
    for (int64_t i = 0; i < k; i++) {
        for (size_t j = 0; j < ROWS * sizeof(Block); j += 64) _mm_prefetch(ahead + i * ROWS * sizeof(Block) + j, _MM_HINT_T0);
        one(b + i, p[i]);
    }
}

template <class F> struct Simple {
    typedef typename F::block block;
    typedef block_q8_0 activation, factor;
    static constexpr int rows = ROWS, tokens = TOKENS;
    static constexpr bool columns = true;
    static constexpr int64_t most = INT64_MAX;
    struct alignas(32) Panel { Strip s; __m256 d; };

    static inline void unpack(const block *rows, size_t stride, int64_t k, Panel *to) {
        unpack_blocks(rows, stride, k, to, [=](const block *b, Panel &p) {
            F::unpack(b, stride, p.s);
            p.d = F::scales(b, stride);
        });
    }

    static inline void column(const activation *const *tokens, int n, Column &c) {
        for (int t = 0; t < TOKENS; t++) {
            const activation *x = tokens[t < n ? t : 0];
            c.d[t] = _cvtsh_ss(x->d);
            if (!F::offset) continue;
            __m256i v = _mm256_madd_epi16(_mm256_maddubs_epi16(bytes(1), _mm256_loadu_si256((const __m256i *) x->qs)), _mm256_set1_epi16(1));
            __m128i w = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
            w = _mm_add_epi32(w, _mm_shuffle_epi32(w, 0x4e));
            w = _mm_add_epi32(w, _mm_shuffle_epi32(w, 0xb1));
            c.offset[t] = F::offset * _mm_cvtsi128_si32(w);
        }
    }

    template <int N>
    static inline void multiply(const Panel *p, int64_t k, const activation *const *tokens, const Column *c, __m256 *out) {
        const __m256i ones = _mm256_set1_epi16(1);
        __m256 f[N];
        for (int t = 0; t < N; t++) f[t] = _mm256_setzero_ps();
        for (int64_t b = 0; b < k; b++) {
            __m256i sum[N];
            if (F::signs) {  // |w| times a with the sign of w: both factors of a maddubs must not be signed
                for (int t = 0; t < N; t++) sum[t] = _mm256_setzero_si256();
                for (int g = 0; g < 8; g++) {
                    __m256i w = p[b].s.w[g], magnitude = _mm256_abs_epi8(w);
                    for (int t = 0; t < N; t++) {
                        __m256i x = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(repeated(tokens[t][b].qs + 4 * g), w));
                        sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(x, ones));
                    }
                }
            } else {  // of weights up to 31 four products fit into 16 bits
                for (int h = 0; h < 8; h += 4) {
                    __m256i x[N];
                    for (int g = h; g < h + 4; g++) {
                        __m256i w = p[b].s.w[g];
                        for (int t = 0; t < N; t++) {
                            __m256i y = _mm256_maddubs_epi16(w, repeated(tokens[t][b].qs + 4 * g));
                            x[t] = g == h ? y : _mm256_add_epi16(x[t], y);
                        }
                    }
                    for (int t = 0; t < N; t++) {
                        __m256i y = _mm256_madd_epi16(x[t], ones);
                        sum[t] = h ? _mm256_add_epi32(sum[t], y) : _mm256_sub_epi32(y, _mm256_set1_epi32(c[b].offset[t]));
                    }
                }
            }
            for (int t = 0; t < N; t++) {
                __m256 d = _mm256_mul_ps(p[b].d, _mm256_broadcast_ss(&c[b].d[t]));
                f[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[t]), d, f[t]);
            }
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
    struct alignas(32) Panel { Strip s[8]; typename F::Scales scales; };

    static inline void unpack(const block *rows, size_t stride, int64_t k, Panel *to) {
        unpack_blocks(rows, stride, k, to, [=](const block *b, Panel &p) { F::unpack(b, stride, p.s, p.scales); });
    }
};

// Q4_K and Q5_K: d * scale * q - dmin * minimum. `together`: how many products of a weight fit into 16 bits.
template <class F, int together> struct WithMinima : Super<F> {
    typedef typename Super<F>::Panel Panel;
    typedef typename Super<F>::activation activation;

    template <int N>
    static inline void multiply(const Panel *p, int64_t k, const activation *const *tokens, const Column *, __m256 *out) {
        __m256 f[N];
        for (int t = 0; t < N; t++) f[t] = _mm256_setzero_ps();
        for (int64_t b = 0; b < k; b++) {
            __m256i sum[N], least[N];
            for (int t = 0; t < N; t++) sum[t] = least[t] = _mm256_setzero_si256();
            for (int i = 0; i < 8; i++) {
                const __m256i scale = p[b].scales.scale[i];
                for (int h = 0; h < 8; h += together) {
                    __m256i x[N];
                    for (int g = h; g < h + together; g++) {
                        __m256i w = p[b].s[i].w[g];
                        for (int t = 0; t < N; t++) {
                            __m256i y = _mm256_maddubs_epi16(w, repeated(tokens[t][b].qs + 32 * i + 4 * g));
                            x[t] = g == h ? y : _mm256_add_epi16(x[t], y);
                        }
                    }
                    for (int t = 0; t < N; t++) sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(x[t], scale));
                }
            }
            for (int i = 0; i < 8; i++) {
                __m256i minimum = p[b].scales.minimum[i];
                for (int t = 0; t < N; t++)
                    least[t] = _mm256_add_epi32(least[t], _mm256_madd_epi16(minimum, repeated(tokens[t][b].sums + 2 * i)));
            }
            for (int t = 0; t < N; t++) {
                __m256 d = _mm256_broadcast_ss(&tokens[t][b].d);
                f[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[t]), _mm256_mul_ps(p[b].scales.d, d), f[t]);
                f[t] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(least[t]), _mm256_mul_ps(p[b].scales.dmin, d), f[t]);
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
    static inline void multiply(const Panel *p, int64_t k, const activation *const *tokens, const Column *, __m256 *out) {
        __m256 f[N];
        for (int t = 0; t < N; t++) f[t] = _mm256_setzero_ps();
        for (int64_t b = 0; b < k; b++) {
            __m256i sum[N], less[N];
            for (int t = 0; t < N; t++) sum[t] = less[t] = _mm256_setzero_si256();
            for (int i = 0; i < 16; i++) {
                const __m256i scale = p[b].scales.scale[i];
                for (int h = 0; h < 4; h += F::together) {
                    __m256i x[N];
                    for (int g = h; g < h + F::together; g++) {
                        __m256i w = p[b].s[i / 2].w[i % 2 * 4 + g];
                        for (int t = 0; t < N; t++) {
                            __m256i y = _mm256_maddubs_epi16(w, repeated(tokens[t][b].qs + 16 * i + 4 * g));
                            x[t] = g == h ? y : _mm256_add_epi16(x[t], y);
                        }
                    }
                    for (int t = 0; t < N; t++) sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(x[t], scale));
                }
            }
            for (int i = 0; i < 8; i++)
                for (int t = 0; t < N; t++)
                    less[t] = _mm256_add_epi32(less[t], _mm256_madd_epi16(p[b].scales.less[i], repeated(tokens[t][b].sums + 2 * i)));
            for (int t = 0; t < N; t++) {
                __m256 d = _mm256_broadcast_ss(&tokens[t][b].d);
                if (!F::minima) sum[t] = _mm256_sub_epi32(sum[t], _mm256_slli_epi32(less[t], F::shift));
                f[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[t]), _mm256_mul_ps(p[b].scales.d, d), f[t]);
                if (F::minima) f[t] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(less[t]), _mm256_mul_ps(p[b].scales.dmin, d), f[t]);
            }
        }
        for (int t = 0; t < N; t++) out[t] = f[t];
    }
};

// IQ4_XS: d * scale * q, weights are signed bytes.
struct Signed : Super<IQ4_XS> {
    template <int N>
    static inline void multiply(const Panel *p, int64_t k, const activation *const *tokens, const Column *, __m256 *out) {
        __m256 f[N];
        for (int t = 0; t < N; t++) f[t] = _mm256_setzero_ps();
        for (int64_t b = 0; b < k; b++) {
            __m256i sum[N];
            for (int t = 0; t < N; t++) sum[t] = _mm256_setzero_si256();
            for (int i = 0; i < 8; i++) {
                const __m256i scale = p[b].scales.scale[i];
                for (int g = 0; g < 8; g++) {
                    __m256i w = p[b].s[i].w[g], magnitude = _mm256_abs_epi8(w);
                    for (int t = 0; t < N; t++) {
                        __m256i x = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(repeated(tokens[t][b].qs + 32 * i + 4 * g), w));
                        sum[t] = _mm256_add_epi32(sum[t], _mm256_madd_epi16(x, scale));
                    }
                }
            }
            for (int t = 0; t < N; t++)
                f[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[t]), _mm256_mul_ps(p[b].scales.d, _mm256_broadcast_ss(&tokens[t][b].d)), f[t]);
        }
        for (int t = 0; t < N; t++) out[t] = f[t];
    }
};
