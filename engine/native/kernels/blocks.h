// Quantised blocks as ggml lays them out in files and in memory, and how eight rows of them become bytes side by side.
//
// A strip holds 8 rows by 32 columns of weights: w[g] has columns 4g to 4g+3 of row i in its bytes 4i to 4i+3. So one
// 32-bit lane is one row, and four bytes of an activation, repeated in every lane, meet the weights of all eight rows.
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

constexpr int ROWS = 8;  // of a strip

struct block_q4_0 { uint16_t d; uint8_t qs[16]; };
struct block_q5_0 { uint16_t d; uint8_t qh[4], qs[16]; };
struct block_q8_0 { uint16_t d; int8_t qs[32]; };
struct block_q4_k { uint16_t d, dmin; uint8_t scales[12], qs[128]; };
struct block_q5_k { uint16_t d, dmin; uint8_t scales[12], qh[32], qs[128]; };
struct block_q6_k { uint8_t ql[128], qh[64]; int8_t scales[16]; uint16_t d; };
struct block_q8_k { float d; int8_t qs[256]; int16_t sums[16]; };
static_assert(sizeof(block_q4_0) == 18 && sizeof(block_q5_0) == 22 && sizeof(block_q8_0) == 34, "as in ggml-common.h");
static_assert(sizeof(block_q4_k) == 144 && sizeof(block_q5_k) == 176 && sizeof(block_q6_k) == 210, "as in ggml-common.h");
static_assert(sizeof(block_q8_k) == 292, "as in ggml-common.h");

struct alignas(32) Strip { __m256i w[8]; };

static inline __m256i bytes(int x) { return _mm256_set1_epi8((char) x); }

// 16 bytes of each of eight rows, `stride` bytes apart: out[j] has dword j of every row.
static inline void transpose(const void *from, size_t stride, __m256i out[4]) {
    const char *p = (const char *) from;
    __m256i r[4];
    for (int i = 0; i < 4; i++) {
        __m128i low = _mm_loadu_si128((const __m128i *) (p + i * stride));
        r[i] = _mm256_inserti128_si256(_mm256_castsi128_si256(low), _mm_loadu_si128((const __m128i *) (p + (i + 4) * stride)), 1);
    }
    __m256i a = _mm256_unpacklo_epi32(r[0], r[1]), b = _mm256_unpackhi_epi32(r[0], r[1]);
    __m256i c = _mm256_unpacklo_epi32(r[2], r[3]), d = _mm256_unpackhi_epi32(r[2], r[3]);
    out[0] = _mm256_unpacklo_epi64(a, c);
    out[1] = _mm256_unpackhi_epi64(a, c);
    out[2] = _mm256_unpacklo_epi64(b, d);
    out[3] = _mm256_unpackhi_epi64(b, d);
}

// A half-precision number of each of eight rows.
static inline __m256 halves(const void *from, size_t stride) {
    const char *p = (const char *) from;
    uint16_t h[8];
    for (int i = 0; i < 8; i++) memcpy(&h[i], p + i * stride, 2);
    __m128i x = _mm_set_epi16(h[7], h[6], h[5], h[4], h[3], h[2], h[1], h[0]);
    return _mm256_cvtph_ps(x);
}

static inline __m256i low(__m256i x) { return _mm256_and_si256(x, bytes(15)); }
static inline __m256i high(__m256i x) { return low(_mm256_srli_epi16(x, 4)); }

// Formats with a scale for each 32 columns; activations are Q8_0. `signs`: weights are signed bytes, else they are what
// is left after `offset` was added.
struct Q8_0 {
    typedef block_q8_0 block;
    static constexpr bool signs = true;
    static constexpr int offset = 0;
    static inline void unpack(const block *b, size_t stride, Strip &s) {
        transpose(b->qs, stride, s.w);
        transpose(b->qs + 16, stride, s.w + 4);
    }
};

struct Q4_0 {
    typedef block_q4_0 block;
    static constexpr bool signs = false;
    static constexpr int offset = 8;
    static inline void unpack(const block *b, size_t stride, Strip &s) {
        __m256i x[4];
        transpose(b->qs, stride, x);
        for (int j = 0; j < 4; j++) {
            s.w[j] = low(x[j]);
            s.w[4 + j] = high(x[j]);
        }
    }
};

struct Q5_0 {
    typedef block_q5_0 block;
    static constexpr bool signs = false;
    static constexpr int offset = 16;
    static inline void unpack(const block *b, size_t stride, Strip &s) {
        Q4_0::unpack((const block_q4_0 *) (b->qh + 2), stride, s);  // its nibbles lie 2 bytes behind that
        const char *p = (const char *) b->qh;
        int32_t h[8];
        for (int i = 0; i < 8; i++) memcpy(&h[i], p + i * stride, 4);
        __m256i bits = _mm256_set_epi32(h[7], h[6], h[5], h[4], h[3], h[2], h[1], h[0]);
        const __m256i odd = _mm256_set1_epi32((int) 0x80402010), even = _mm256_set1_epi32(0x08040201);
        for (int g = 0; g < 8; g++) {
            int byte = g / 2 * 0x01010101;
            __m256i at = _mm256_setr_epi32(byte, byte + 0x04040404, byte + 0x08080808, byte + 0x0c0c0c0c,
                                           byte, byte + 0x04040404, byte + 0x08080808, byte + 0x0c0c0c0c);
            __m256i bit = g % 2 ? odd : even;
            __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(bits, at), bit), bit);
            s.w[g] = _mm256_or_si256(s.w[g], _mm256_and_si256(set, bytes(16)));
        }
    }
};

// Formats with blocks of 256 columns and integer scales inside; activations are Q8_K. A scale stands twice in the lane of
// its row, as factor of two sums of 16 bits.
static inline __m256i twice(__m128i eight_bytes) {
    __m256i x = _mm256_cvtepu8_epi32(eight_bytes);
    return _mm256_or_si256(x, _mm256_slli_epi32(x, 16));
}

// Eight rows of eight bytes (two rows each): out[j] has byte j of every row in its low half, byte j+1 in the high one.
static inline void transpose_bytes(const __m128i r[4], __m128i out[4]) {
    // rows 0 1, 2 3, 4 5, 6 7 -> byte-wise
    __m128i a = _mm_unpacklo_epi8(r[0], _mm_unpackhi_epi64(r[0], r[0])), b = _mm_unpacklo_epi8(r[1], _mm_unpackhi_epi64(r[1], r[1]));
    __m128i c = _mm_unpacklo_epi8(r[2], _mm_unpackhi_epi64(r[2], r[2])), d = _mm_unpacklo_epi8(r[3], _mm_unpackhi_epi64(r[3], r[3]));
    __m128i ab0 = _mm_unpacklo_epi16(a, b), ab1 = _mm_unpackhi_epi16(a, b), cd0 = _mm_unpacklo_epi16(c, d), cd1 = _mm_unpackhi_epi16(c, d);
    out[0] = _mm_unpacklo_epi32(ab0, cd0);
    out[1] = _mm_unpackhi_epi32(ab0, cd0);
    out[2] = _mm_unpacklo_epi32(ab1, cd1);
    out[3] = _mm_unpackhi_epi32(ab1, cd1);
}

struct alignas(32) Scales4 {  // of Q4_K and Q5_K, for 8 strips
    __m256i scale[8];         // twice in a lane
    __m256i minimum[8];       // twice in a lane
    __m256 d, dmin;
};

static inline void unpack_scales(const uint16_t *d, const uint8_t *scales, size_t stride, Scales4 &s) {
    uint8_t x[16][8];  // bytes 0 to 7 of 8 rows: scales, then minima
    for (int i = 0; i < 8; i++) {
        uint32_t u[3];
        memcpy(u, (const char *) scales + i * stride, 12);
        uint32_t low0 = u[0] & 0x3f3f3f3f, low1 = u[1] & 0x3f3f3f3f;
        uint32_t high0 = (u[2] & 0x0f0f0f0f) | ((u[0] >> 2) & 0x30303030), high1 = ((u[2] >> 4) & 0x0f0f0f0f) | ((u[1] >> 2) & 0x30303030);
        memcpy(x[i], &low0, 4);
        memcpy(x[i] + 4, &high0, 4);
        memcpy(x[8 + i], &low1, 4);
        memcpy(x[8 + i] + 4, &high1, 4);
    }
    __m128i t[4];
    transpose_bytes((const __m128i *) x[0], t);
    for (int j = 0; j < 8; j++) s.scale[j] = twice(j % 2 ? _mm_unpackhi_epi64(t[j / 2], t[j / 2]) : t[j / 2]);
    transpose_bytes((const __m128i *) x[8], t);
    for (int j = 0; j < 8; j++) s.minimum[j] = twice(j % 2 ? _mm_unpackhi_epi64(t[j / 2], t[j / 2]) : t[j / 2]);
    s.d = halves(d, stride);
    s.dmin = halves(d + 1, stride);
}

struct Q4_K {
    typedef block_q4_k block;
    typedef Scales4 Scales;
    static inline void unpack(const block *b, size_t stride, Strip s[8], Scales &scales) {
        unpack_scales(&b->d, b->scales, stride, scales);
        for (int i = 0; i < 8; i++) {
            __m256i x[4];
            transpose(b->qs + 16 * i, stride, x);
            for (int j = 0; j < 4; j++) {
                s[i / 2 * 2].w[i % 2 * 4 + j] = low(x[j]);
                s[i / 2 * 2 + 1].w[i % 2 * 4 + j] = high(x[j]);
            }
        }
    }
};

struct Q5_K {
    typedef block_q5_k block;
    typedef Scales4 Scales;
    static inline void unpack(const block *b, size_t stride, Strip s[8], Scales &scales) {
        unpack_scales(&b->d, b->scales, stride, scales);
        __m256i bits[8];
        transpose(b->qh, stride, bits);
        transpose(b->qh + 16, stride, bits + 4);
        for (int i = 0; i < 8; i++) {
            __m256i x[4];
            transpose(b->qs + 16 * i, stride, x);
            int a = i / 2 * 2;
            for (int j = 0; j < 4; j++) {
                int g = i % 2 * 4 + j;
                __m256i h = a < 4 ? _mm256_slli_epi16(bits[g], 4 - a) : _mm256_srli_epi16(bits[g], a - 4);
                __m256i k = a + 1 < 4 ? _mm256_slli_epi16(bits[g], 3 - a) : _mm256_srli_epi16(bits[g], a - 3);
                s[a].w[g] = _mm256_or_si256(low(x[j]), _mm256_and_si256(h, bytes(16)));
                s[a + 1].w[g] = _mm256_or_si256(high(x[j]), _mm256_and_si256(k, bytes(16)));
            }
        }
    }
};

struct alignas(32) Scales6 {  // of Q6_K, for 8 strips
    __m256i scale[16];        // of 16 columns, twice in a lane
    __m256i pair[8];          // of a strip's two halves, in one lane
    __m256 d;
};

struct Q6_K {
    typedef block_q6_k block;
    typedef Scales6 Scales;
    static inline void unpack(const block *b, size_t stride, Strip s[8], Scales &scales) {
        scales.d = halves(&b->d, stride);
        __m256i x[4];
        transpose(b->scales, stride, x);  // dword j: scales 4j to 4j+3 of a row
        for (int j = 0; j < 4; j++) {
            __m256i words[4];  // as int32
            words[0] = _mm256_srai_epi32(_mm256_slli_epi32(x[j], 24), 24);
            words[1] = _mm256_srai_epi32(_mm256_slli_epi32(x[j], 16), 24);
            words[2] = _mm256_srai_epi32(_mm256_slli_epi32(x[j], 8), 24);
            words[3] = _mm256_srai_epi32(x[j], 24);
            for (int i = 0; i < 4; i++) scales.scale[4 * j + i] = _mm256_blend_epi16(words[i], _mm256_slli_epi32(words[i], 16), 0xaa);
            scales.pair[2 * j] = _mm256_blend_epi16(words[0], _mm256_slli_epi32(words[1], 16), 0xaa);
            scales.pair[2 * j + 1] = _mm256_blend_epi16(words[2], _mm256_slli_epi32(words[3], 16), 0xaa);
        }
        const __m256i two = bytes(0x30);
        for (int half = 0; half < 2; half++) {
            const uint8_t *ql = b->ql + 64 * half, *qh = b->qh + 32 * half;
            Strip *o = s + 4 * half;
            for (int i = 0; i < 2; i++) {
                __m256i l0[4], l1[4], h[4];
                transpose(ql + 16 * i, stride, l0);
                transpose(ql + 32 + 16 * i, stride, l1);
                transpose(qh + 16 * i, stride, h);
                for (int j = 0; j < 4; j++) {
                    int g = 4 * i + j;
                    o[0].w[g] = _mm256_or_si256(low(l0[j]), _mm256_and_si256(_mm256_slli_epi16(h[j], 4), two));
                    o[1].w[g] = _mm256_or_si256(low(l1[j]), _mm256_and_si256(_mm256_slli_epi16(h[j], 2), two));
                    o[2].w[g] = _mm256_or_si256(high(l0[j]), _mm256_and_si256(h[j], two));
                    o[3].w[g] = _mm256_or_si256(high(l1[j]), _mm256_and_si256(_mm256_srli_epi16(h[j], 2), two));
                }
            }
        }
    }
};
