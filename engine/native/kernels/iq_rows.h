// Products with one token, row by row (see rows.h), of IQ4_XS: nibbles that stand for values, a scale for each 32.
#pragma once
#include "rows.h"

// The scales of strips 0, 2, 4, 6, and in the upper lane 1, 3, 5, 7, each twice.
static inline __m256i iq4_scales(const block_iq4_xs &w) {
    int32_t low;
    memcpy(&low, w.scales_l, 4);
    const __m256i l = _mm256_srlv_epi32(_mm256_set1_epi32(low), _mm256_setr_epi32(0, 8, 16, 24, 4, 12, 20, 28));
    const __m256i h = _mm256_srlv_epi32(_mm256_set1_epi32(w.scales_h), _mm256_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14));
    const __m256i four = _mm256_and_si256(l, _mm256_set1_epi32(15)), two = _mm256_and_si256(h, _mm256_set1_epi32(3));
    const __m256i scales = _mm256_sub_epi32(_mm256_or_si256(four, _mm256_slli_epi32(two, 4)), _mm256_set1_epi32(32));
    return _mm256_blend_epi16(scales, _mm256_slli_epi32(scales, 16), 0xaa);
}

// Quants in the order in which 32 bytes of weights have theirs: of two strips the first 16 each, then the last 16 each.
static inline void in_pairs(const int8_t *quants, __m256i *to) {
    for (int p = 0; p < 4; p++) {
        const __m256i a = _mm256_loadu_si256((const __m256i *) quants + 2 * p), b = _mm256_loadu_si256((const __m256i *) quants + 2 * p + 1);
        to[2 * p] = _mm256_permute2x128_si256(a, b, 0x20);
        to[2 * p + 1] = _mm256_permute2x128_si256(a, b, 0x31);
    }
}

struct IQ4Rows {
    // `quants`: of the token, in pairs.
    static inline float row(const block_iq4_xs *w, int64_t k, const block_q8_k *x, const __m256i *quants) {
        const __m256i values = _mm256_broadcastsi128_si256(iq4_values());
        __m256 all = _mm256_setzero_ps();
        for (int64_t b = 0; b < k; b++) {
            fetch((const char *) (w + b) + AHEAD, sizeof *w);
            const __m256i scales = iq4_scales(w[b]);
            const auto *nibbles = (const __m256i *) w[b].qs;
            __m256i even = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
            const auto add = [&](int i, __m256i from, __m256i own, __m256i to) {
                const __m256i q = _mm256_shuffle_epi8(values, from), y = _mm256_sign_epi8(quants[b * 8 + i], q);
                return _mm256_add_epi32(to, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(q), y), own));
            };
            const auto add_pair = [&](int pair, __m256i own) {
                const __m256i x = _mm256_loadu_si256(nibbles + pair);
                even = add(2 * pair, low(x), own, even);
                odd = add(2 * pair + 1, high(x), own, odd);
            };
            add_pair(0, _mm256_shuffle_epi32(scales, 0x00));
            add_pair(1, _mm256_shuffle_epi32(scales, 0x55));
            add_pair(2, _mm256_shuffle_epi32(scales, 0xaa));
            add_pair(3, _mm256_shuffle_epi32(scales, 0xff));
            all = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(even, odd)), _mm256_set1_ps(_cvtsh_ss(w[b].d) * x[b].d), all);
        }
        return total(all);
    }

    static bool multiply(const Product &p) {
        static thread_local Buffer<int8_t> buffer;
        const auto *x = p.token<block_q8_k>(0);
        auto *quants = (__m256i *) buffer.get(256 * p.k);
        for (int64_t b = 0; b < p.k; b++) in_pairs(x[b].qs, quants + b * 8);
        return each_row(p, p.lda * sizeof(block_iq4_xs), [&](const char *w) { return row((const block_iq4_xs *) w, p.k, x, quants); });
    }
};
