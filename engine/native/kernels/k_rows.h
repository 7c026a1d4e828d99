// Products with one token, row by row (see rows.h), of formats whose blocks of 256 weights have a scale and a minimum for
// each 32 of them: Q4_K and Q5_K. Scales are whole numbers, and so are sums within a block.
#pragma once
#include "rows.h"

// Eight scales and eight minima of 6 bits each, as words.
static inline void unpack_6_bits(const uint8_t *from, __m128i &scales, __m128i &minima) {
    uint32_t u[3];
    memcpy(u, from, 12);
    const uint64_t s = (u[2] & 0x0f0f0f0f) | (u[0] >> 2 & 0x30303030), m = (u[2] >> 4 & 0x0f0f0f0f) | (u[1] >> 2 & 0x30303030);
    scales = _mm_cvtepu8_epi16(_mm_cvtsi64_si128((long long) (s << 32 | (u[0] & 0x3f3f3f3f))));
    minima = _mm_cvtepu8_epi16(_mm_cvtsi64_si128((long long) (m << 32 | (u[1] & 0x3f3f3f3f))));
}

// The fifth bits of strip j of 32 weights, where they belong.
static inline __m256i fifth_bits(const block_q4_k &, int) { return _mm256_setzero_si256(); }
static inline __m256i fifth_bits(const block_q5_k &w, int j) {
    const __m256i bits = _mm256_loadu_si256((const __m256i *) w.qh);
    return _mm256_and_si256(j < 4 ? _mm256_slli_epi16(bits, 4 - j) : _mm256_srli_epi16(bits, j - 4), bytes(16));
}

template <class Block> struct KRows {
    // `by_strips`: of each block of the token, the sums of its quants by strips of 32.
    static inline float row(const Block *w, int64_t k, const block_q8_k *x, const __m128i *by_strips) {
        __m256 all = _mm256_setzero_ps();
        __m128 below = _mm_setzero_ps();
        for (int64_t b = 0; b < k; b++) {
            fetch((const char *) (w + b) + AHEAD, sizeof *w);
            __m128i scales, minima;
            unpack_6_bits(w[b].scales, scales, minima);
            int32_t halves;
            memcpy(&halves, &w[b].d, 4);
            const __m128 own = _mm_cvtph_ps(_mm_cvtsi32_si128(halves));  // and that of the minima
            const __m256i low_scales = _mm256_broadcastsi128_si256(_mm_unpacklo_epi16(scales, scales));
            const __m256i high_scales = _mm256_broadcastsi128_si256(_mm_unpackhi_epi16(scales, scales));
            __m256i even = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) {
                const __m256i q = _mm256_loadu_si256((const __m256i *) (w[b].qs + 32 * j)), of = j < 2 ? low_scales : high_scales;
                const __m256i first = j % 2 ? _mm256_shuffle_epi32(of, 0xaa) : _mm256_shuffle_epi32(of, 0x00);
                const __m256i second = j % 2 ? _mm256_shuffle_epi32(of, 0xff) : _mm256_shuffle_epi32(of, 0x55);
                const int8_t *y = x[b].qs + 64 * j;
                even = _mm256_add_epi32(even, scaled(_mm256_or_si256(low(q), fifth_bits(w[b], 2 * j)), y, first));
                odd = _mm256_add_epi32(odd, scaled(_mm256_or_si256(high(q), fifth_bits(w[b], 2 * j + 1)), y + 32, second));
            }
            const __m128 d = _mm_mul_ps(own, _mm_set1_ps(x[b].d));
            below = _mm_fmadd_ps(_mm_cvtepi32_ps(_mm_madd_epi16(minima, by_strips[b])), _mm_permute_ps(d, 0x55), below);
            all = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(even, odd)), _mm256_broadcastss_ps(d), all);
        }
        return total(_mm256_sub_ps(all, _mm256_zextps128_ps256(below)));
    }

    static bool multiply(const Product &p) {
        static thread_local Buffer<int16_t> buffer;
        const auto *x = p.token<block_q8_k>(0);
        auto *by_strips = (__m128i *) buffer.get(8 * p.k);
        for (int64_t b = 0; b < p.k; b++) {
            const auto *s = (const __m128i *) x[b].sums;
            by_strips[b] = _mm_hadd_epi16(_mm_loadu_si128(s), _mm_loadu_si128(s + 1));
        }
        return each_row(p, p.lda * sizeof(Block), [&](const char *w) { return row((const Block *) w, p.k, x, by_strips); });
    }
};
