// Products with one token, row by row (see rows.h), of formats whose blocks of 256 weights have a scale for each 16 of
// them: Q2_K, Q3_K and Q6_K.
#pragma once
#include "rows.h"

// What lies `by` bits further down; further up where that is negative. Bits of a neighbour come along.
static inline __m256i moved(__m256i x, int by) { return by < 0 ? _mm256_slli_epi16(x, -by) : _mm256_srli_epi16(x, by); }
static inline __m256i part(const uint8_t *from, int by, int mask) {
    return _mm256_and_si256(moved(_mm256_loadu_si256((const __m256i *) from), by), bytes(mask));
}

// Strip j, of 32 weights, of a half of a block, as numbers from 0 on.
static inline __m256i strip(const block_q6_k &w, int half, int j) {
    return _mm256_or_si256(part(w.ql + 64 * half + j % 2 * 32, j / 2 * 4, 15), part(w.qh + 32 * half, 2 * j - 4, 0x30));
}
static inline __m256i strip(const block_q3_k &w, int half, int j) {
    return _mm256_or_si256(part(w.qs + 32 * half, 2 * j, 3), part(w.hmask, 4 * half + j - 2, 4));
}
static inline __m256i strip(const block_q2_k &w, int half, int j) { return part(w.qs + 32 * half, 2 * j, 3); }

// The scales, as bytes.
static inline __m128i own_scales(const block_q6_k &w) { return _mm_loadu_si128((const __m128i *) w.scales); }
static inline __m128i own_scales(const block_q3_k &w) {
    const __m128i u = _mm_castps_si128(_mm_maskload_ps((const float *) w.scales, _mm_setr_epi32(-1, -1, -1, 0)));
    const __m128i first = _mm_unpacklo_epi64(u, _mm_srli_epi16(u, 4)), last = _mm_shuffle_epi32(u, 0xaa);
    const __m128i upper = _mm_and_si128(_mm_srlv_epi32(last, _mm_setr_epi32(0, 2, 4, 6)), _mm_set1_epi8(3));
    return _mm_sub_epi8(_mm_or_si128(_mm_and_si128(first, _mm_set1_epi8(15)), _mm_slli_epi16(upper, 4)), _mm_set1_epi8(32));
}
static inline __m128i own_scales(const block_q2_k &w) { return _mm_and_si128(_mm_loadu_si128((const __m128i *) w.scales), _mm_set1_epi8(15)); }

// How much more a strip's numbers are than what they stand for, as a power of two; none where a block has minima.
static constexpr int OFFSET(const block_q6_k *) { return 5; }
static constexpr int OFFSET(const block_q3_k *) { return 2; }

// What the offset, or the minima, take from the sums of a block: `whole` in its scales, `parts` in minima.
template <class Block> static inline void take(const Block &w, __m256i scales, __m256i sums, float, __m256i &whole, __m256 &) {
    whole = _mm256_sub_epi32(whole, _mm256_slli_epi32(_mm256_madd_epi16(scales, sums), OFFSET(&w)));
}
static inline void take(const block_q2_k &w, __m256i, __m256i sums, float d, __m256i &, __m256 &parts) {
    const __m128i minima = _mm_and_si128(_mm_srli_epi16(_mm_loadu_si128((const __m128i *) w.scales), 4), _mm_set1_epi8(15));
    const __m256i less = _mm256_madd_epi16(_mm256_cvtepu8_epi16(minima), sums);
    parts = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(less), _mm256_set1_ps(_cvtsh_ss(w.dmin) * d), parts);
}

template <class Block> struct SixteensRows {
    static inline float row(const Block *w, int64_t k, const block_q8_k *x) {
        __m256 all = _mm256_setzero_ps();
        for (int64_t b = 0; b < k; b++) {
            fetch((const char *) (w + b) + AHEAD, sizeof *w);
            const __m256i scales = _mm256_cvtepi8_epi16(own_scales(w[b]));
            __m256i even = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
            take(w[b], scales, _mm256_loadu_si256((const __m256i *) x[b].sums), x[b].d, even, all);
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++) {
                // In each lane the scales of its 16 columns of four strips, twice.
                const __m256i own = half ? _mm256_permute4x64_epi64(scales, 0xee) : _mm256_permute4x64_epi64(scales, 0x44);
                const __m256i pairs = _mm256_shuffle_epi8(own, _mm256_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13,
                                                                                2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15));
                const auto add = [&](int j, __m256i scale, __m256i to) {
                    return _mm256_add_epi32(to, scaled(strip(w[b], half, j), x[b].qs + 128 * half + 32 * j, scale));
                };
                even = add(0, _mm256_shuffle_epi32(pairs, 0x00), even);
                odd = add(1, _mm256_shuffle_epi32(pairs, 0x55), odd);
                even = add(2, _mm256_shuffle_epi32(pairs, 0xaa), even);
                odd = add(3, _mm256_shuffle_epi32(pairs, 0xff), odd);
            }
            all = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(even, odd)), _mm256_set1_ps(_cvtsh_ss(w[b].d) * x[b].d), all);
        }
        return total(all);
    }

    static bool multiply(const Product &p) {
        const auto *x = p.token<block_q8_k>(0);
        return each_row(p, p.lda * sizeof(Block), [&](const char *w) { return row((const Block *) w, p.k, x); });
    }
};
