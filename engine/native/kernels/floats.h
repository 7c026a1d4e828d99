// Products of float, half-precision and bfloat16 weights with tokens of floats or halves: the same method in float32, 16
// rows by 6 tokens, or by 12 where a vector holds 16 floats.
#pragma once
#include "tiles.h"

struct Single {
    typedef float number;
    static inline __m256 load(const float *p) { return _mm256_loadu_ps(p); }
};
struct Half {
    typedef uint16_t number;
    static inline __m256 load(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p)); }
};
struct Bfloat {
    typedef uint16_t number;
    static inline __m256 load(const uint16_t *p) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *) p)), 16));
    }
};

// Eight rows of eight numbers: afterwards r[j] has number j of every row.
static inline void transpose(__m256 r[8]) {
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

template <class Number, class Token = Single> struct Floats {
    typedef typename Number::number block;
    typedef typename Token::number activation;
    typedef float factor;
    static constexpr int rows = 16, parts = rows / ROWS, tokens = 12 / parts, straight = 0;
    static constexpr bool columns = false;
    static constexpr int64_t most = 2048;
    struct alignas(64) Panel { Reals w[parts]; };  // a column of 16 rows
    typedef const Panel *FromPanel;
    struct Column {};

    static void convert(const activation *from, int64_t k, float *to) {
        for (int64_t c = 0; c < k; c += 8) _mm256_storeu_ps(to + c, Token::load(from + c));
    }

    static void unpack(const block *b, size_t stride, int64_t k, Panel *p) {
        for (int64_t c = 0; c < k; c += 8) {
            for (int half = 0; half < 2; half++) {
                __m256 r[8];
                for (int i = 0; i < 8; i++) r[i] = Number::load((const block *) ((const char *) b + (8 * half + i) * stride) + c);
                transpose(r);
                for (int j = 0; j < 8; j++) _mm256_store_ps((float *) p[c + j].w + 8 * half, r[j]);
            }
        }
    }

    template <int N, class From>
    static inline void multiply(From p, int64_t k, const factor *const *tokens, const Column *, Reals *out) {
        Reals f[N][parts];
        for (int t = 0; t < N; t++)
            for (int i = 0; i < parts; i++) f[t][i] = Reals{};
        for (int64_t c = 0; c < k; c++) {
            for (int t = 0; t < N; t++) {
                const Reals a = repeated(tokens[t][c]);
                for (int i = 0; i < parts; i++) f[t][i] = fused(p[c].w[i], a, f[t][i]);
            }
        }
        for (int t = 0; t < N; t++)
            for (int i = 0; i < parts; i++) out[t * parts + i] = f[t][i];
    }
};
