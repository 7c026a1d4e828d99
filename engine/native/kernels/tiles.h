// Products of a strip's rows of weights with a few tokens, in registers. The method is the usual one of a blocked matrix
// product (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008): a packed panel of weights
// that stays in the cache, and a small tile of results that stays in registers. Where one tile has all tokens, each group
// of weights is multiplied as soon as it is unpacked, and no panel is written.
#pragma once
#include <type_traits>

#include "blocks.h"

constexpr int TOKENS = VNNI ? 8 : 4;  // of a tile: as many as registers hold the sums of

// With VNNI weights must not have signs: signed bytes are this much more in a panel.
constexpr int UNSIGNED = 128;

// A format with signed weights, as VNNI multiplies them.
template <class F> struct Unsigned : F {
    template <class Use> static INLINE void strips(const typename F::block *b, size_t stride, Use use) {
        F::strips(b, stride, [&](int i, auto w) INLINED { use(i, [&](int g) INLINED { return w(g) ^ every_byte(UNSIGNED); }); });
    }
};

// A block of a strip's rows, packed.
template <class F> struct Block {
    decltype(F::scales(nullptr, 0)) scales;
    Lanes w[F::count * F::groups];
};

// Where the weights of a product come from, block by block: from a panel that they were packed into, or straight from
// rows.
template <class F> struct Packed {
    const Block<F> *panel;
    INLINE const auto &scales(int64_t b) const { return panel[b].scales; }
    template <class Use> INLINE void strips(int64_t b, Use use) const {
        constexpr int groups = F::groups;
        for (int i = 0; i < F::count; i++) use(i, [&](int g) INLINED { return panel[b].w[i * groups + g]; });
    }
};
template <class F> struct Straight {
    const typename F::block *rows;
    size_t stride;
    INLINE auto scales(int64_t b) const { return F::scales(rows + b, stride); }
    template <class Use> INLINE void strips(int64_t b, Use use) const {
        // What most likely comes next but one is fetched meanwhile, a part of it with each strip.
        constexpr int lines = (ROWS * sizeof *rows + 63) / 64, part = (lines + F::count - 1) / F::count;
        const char *ahead = (const char *) rows + 2 * ROWS * stride + b * ROWS * sizeof *rows;
        F::strips(rows + b, stride, [&](int i, auto w) INLINED {
            for (int j = 0; j < part; j++) _mm_prefetch(ahead + (i * part + j) * 64, _MM_HINT_T1);
            use(i, w);
        });
    }
};

// A format's panels. `straight`: so many tokens are not worth one.
template <class F> struct Packing {
    typedef typename F::block block;
    static constexpr int rows = ROWS, tokens = TOKENS, straight = TOKENS;
    static constexpr bool columns = true;
    static constexpr int64_t most = INT64_MAX;
    typedef Block<F> Panel;
    typedef Packed<F> FromPanel;
    typedef Straight<F> FromRows;

    static void unpack(const block *rows, size_t stride, int64_t k, Panel *to) {
        const Straight<F> from = {rows, stride};
        for (int64_t b = 0; b < k; b++) {
            to[b].scales = from.scales(b);
            from.strips(b, [&](int i, auto w) INLINED {
#pragma GCC unroll 8
                for (int g = 0; g < F::groups; g++) to[b].w[i * F::groups + g] = w(g);
            });
        }
    }
};

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
static INLINE Lanes signed_dots(Lanes weights, Lanes magnitudes, Lanes quants) {
    return _mm256_maddubs_epi16(magnitudes, _mm256_sign_epi8(quants, weights));
}
static INLINE Lanes magnitudes(Lanes weights) { return _mm256_abs_epi8(weights); }
#endif

// Products of n groups of weights from group `first` on with quants, those of each token from `column` on, as a sum.
template <int N, class Weights, class Token>
static INLINE void add_dots(Weights w, int first, int n, const Token *const *tokens, int64_t b, int column, Lanes *x) {
#pragma GCC unroll 8
    for (int g = 0; g < n; g++) {
        const Lanes weights = w(first + g);
        for (int t = 0; t < N; t++) {
            const Lanes q = repeated(tokens[t][b].qs + column + 4 * g);
            x[t] = g ? more_dots(x[t], weights, q) : dots(weights, q);
        }
    }
}

template <class F> struct Simple : Packing<std::conditional_t<VNNI && F::signs, Unsigned<F>, F>> {
    typedef block_q8_0 activation, factor;
    static constexpr int offset = VNNI && F::signs ? UNSIGNED : F::offset;

    // The scale of some tokens' block, and the sum of its quants times what the weights are more.
    struct alignas(16) Column { float d[TOKENS]; int32_t offset[TOKENS]; };
    static inline void column(const activation *const *tokens, int n, Column &c) {
        for (int t = 0; t < TOKENS; t++) {
            const activation *x = tokens[t < n ? t : 0];
            c.d[t] = _cvtsh_ss(x->d);
            c.offset[t] = offset ? offset * sum_of(*x) : 0;
        }
    }

    template <int N, class From>
    static inline void multiply(From from, int64_t k, const activation *const *tokens, const Column *c, Reals *out) {
        constexpr int together = VNNI ? 8 : 4;  // of weights up to 31 four products fit into 16 bits
        Reals f[N];
        for (int t = 0; t < N; t++) f[t] = Reals{};
        for (int64_t b = 0; b < k; b++) {
            const auto &scale = from.scales(b);
            from.strips(b, [&](int, auto w) INLINED {
                Lanes sum[N];
                if constexpr (offset != 0) {
                    for (int t = 0; t < N; t++) sum[t] = subtracted(Lanes{}, repeated(c[b].offset[t]));
                    for (int h = 0; h < 8; h += together) {
                        Lanes x[N];
                        add_dots<N>(w, h, together, tokens, b, 4 * h, x);
                        for (int t = 0; t < N; t++) sum[t] = added(sum[t], whole(x[t]));
                    }
                }
#ifndef __AVX512VNNI__
                else {
                    for (int t = 0; t < N; t++) sum[t] = Lanes{};
                    for (int g = 0; g < 8; g++) {
                        const Lanes m = magnitudes(w(g));
                        for (int t = 0; t < N; t++) sum[t] = added(sum[t], whole(signed_dots(w(g), m, repeated(tokens[t][b].qs + 4 * g))));
                    }
                }
#endif
                for (int t = 0; t < N; t++) f[t] = fused(of_ints(sum[t]), scale * repeated(c[b].d[t]), f[t]);
            });
        }
        for (int t = 0; t < N; t++) out[t] = f[t];
    }
};
// Formats with blocks of 256 columns. `numbers`: of sums of a token's quants, in the order of the scales' pairs.
template <class F, int numbers> struct Super : Packing<F> {
    typedef block_q8_k activation, factor;
    struct alignas(16) Column { int16_t sums[TOKENS][numbers]; };
    static inline void column(const activation *const *tokens, int n, Column &c) {
        const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
        for (int t = 0; t < n; t++) {
            const auto *from = (const __m128i *) tokens[t]->sums;
            auto *to = (__m128i *) c.sums[t];
            const __m128i first = _mm_loadu_si128(from), last = _mm_loadu_si128(from + 1);
            if constexpr (numbers == 8) {
                to[0] = _mm_shuffle_epi8(_mm_hadd_epi16(first, last), order);
            } else {
                to[0] = _mm_shuffle_epi8(first, order);
                to[1] = _mm_shuffle_epi8(last, order);
            }
        }
    }

    // The sums of a token's quants times the numbers of `pairs`.
    static INLINE Lanes products(const Lanes *pairs, const Column &c, int t) {
        Lanes x = {};
#pragma GCC unroll 8
        for (int i = 0; i < numbers / 2; i++) x = with_pairs(x, pairs[i], repeated(c.sums[t] + 2 * i));
        return x;
    }
};

// The products of a strip's weights with quants, times its scale, added to `sum`.
template <int N, int groups, int together, class Weights, class Token>
static INLINE void add_scaled(Weights w, Lanes scale, const Token *const *tokens, int64_t b, int column, Lanes *sum) {
#pragma GCC unroll 4
    for (int h = 0; h < groups; h += together) {
        Lanes x[N];
        add_dots<N>(w, h, together, tokens, b, column + 4 * h, x);
        for (int t = 0; t < N; t++) sum[t] = added(sum[t], scaled(x[t], scale));
    }
}

// Q4_K and Q5_K: d * scale * q - dmin * minimum. `fits`: how many products of a weight fit into 16 bits.
template <class F, int fits> struct WithMinima : Super<F, 8> {
    using typename Super<F, 8>::activation, typename Super<F, 8>::Column;

    template <int N, class From>
    static inline void multiply(From from, int64_t k, const activation *const *tokens, const Column *c, Reals *out) {
        Reals f[N];
        for (int t = 0; t < N; t++) f[t] = Reals{};
        for (int64_t b = 0; b < k; b++) {
            const auto &scales = from.scales(b);
            Lanes sum[N];
            for (int t = 0; t < N; t++) sum[t] = Lanes{};
            from.strips(b, [&](int i, auto w) INLINED { add_scaled<N, 8, VNNI ? 8 : fits>(w, scales.scale[i], tokens, b, 32 * i, sum); });
            for (int t = 0; t < N; t++) {
                const Reals d = repeated(tokens[t][b].d);
                f[t] = fused(of_ints(sum[t]), scales.d * d, f[t]);
                f[t] = fused_less(of_ints(Super<F, 8>::products(scales.minima, c[b], t)), scales.dmin * d, f[t]);
            }
        }
        for (int t = 0; t < N; t++) out[t] = f[t];
    }
};

// Formats with a scale for each 16 columns: d * scale * (q - offset), or d * scale * q - dmin * minimum.
template <class F> struct Sixteens : Super<F, 16> {
    using typename Super<F, 16>::activation, typename Super<F, 16>::Column;

    template <int N, class From>
    static inline void multiply(From from, int64_t k, const activation *const *tokens, const Column *c, Reals *out) {
        Reals f[N];
        for (int t = 0; t < N; t++) f[t] = Reals{};
        for (int64_t b = 0; b < k; b++) {
            const auto &scales = from.scales(b);
            Lanes sum[N];
            for (int t = 0; t < N; t++) sum[t] = Lanes{};
            from.strips(b, [&](int i, auto w) INLINED { add_scaled<N, 4, VNNI ? 4 : F::together>(w, scales.scale[i], tokens, b, 16 * i, sum); });
            for (int t = 0; t < N; t++) {
                const Reals d = repeated(tokens[t][b].d);
                const Lanes less = Super<F, 16>::products(scales.less, c[b], t);
                if constexpr (F::minima) f[t] = fused_less(of_ints(less), scales.dmin * d, f[t]);
                else sum[t] = subtracted(sum[t], (Lanes) ((Ints) less << F::shift));
                f[t] = fused(of_ints(sum[t]), scales.d * d, f[t]);
            }
        }
        for (int t = 0; t < N; t++) out[t] = f[t];
    }
};

// IQ4_XS: d * scale * q, weights are signed bytes.
struct Signed : Super<std::conditional_t<VNNI, Unsigned<IQ4_XS>, IQ4_XS>, 8> {
    template <int N, class From>
    static inline void multiply(From from, int64_t k, const activation *const *tokens, const Column *c, Reals *out) {
        Reals f[N];
        for (int t = 0; t < N; t++) f[t] = Reals{};
        for (int64_t b = 0; b < k; b++) {
            const auto &scales = from.scales(b);
            Lanes sum[N];
#ifdef __AVX512VNNI__
            for (int t = 0; t < N; t++) sum[t] = (Lanes) ((Ints) products(scales.less, c[b], t) * -UNSIGNED);
            from.strips(b, [&](int i, auto w) INLINED { add_scaled<N, 8, 8>(w, scales.scale[i], tokens, b, 32 * i, sum); });
#else
            for (int t = 0; t < N; t++) sum[t] = Lanes{};
            from.strips(b, [&](int i, auto w) INLINED {
                for (int g = 0; g < 8; g++) {
                    const Lanes m = magnitudes(w(g));
                    for (int t = 0; t < N; t++) {
                        const Lanes q = repeated(tokens[t][b].qs + 32 * i + 4 * g);
                        sum[t] = added(sum[t], scaled(signed_dots(w(g), m, q), scales.scale[i]));
                    }
                }
            });
#endif
            for (int t = 0; t < N; t++) f[t] = fused(of_ints(sum[t]), scales.d * repeated(tokens[t][b].d), f[t]);
        }
        for (int t = 0; t < N; t++) out[t] = f[t];
    }
};
