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
struct block_iq4_nl { uint16_t d; uint8_t qs[16]; };
struct block_mxfp4 { uint8_t e, qs[16]; };
struct block_q8_0 { uint16_t d; int8_t qs[32]; };
struct block_q2_k { uint8_t scales[16], qs[64]; uint16_t d, dmin; };
struct block_q3_k { uint8_t hmask[32], qs[64], scales[12]; uint16_t d; };
struct block_iq4_xs { uint16_t d, scales_h; uint8_t scales_l[4], qs[128]; };
struct block_q4_k { uint16_t d, dmin; uint8_t scales[12], qs[128]; };
struct block_q5_k { uint16_t d, dmin; uint8_t scales[12], qh[32], qs[128]; };
struct block_q6_k { uint8_t ql[128], qh[64]; int8_t scales[16]; uint16_t d; };
struct block_q8_k { float d; int8_t qs[256]; int16_t sums[16]; };
static_assert(sizeof(block_q4_0) == 18 && sizeof(block_q5_0) == 22 && sizeof(block_q8_0) == 34, "as in ggml-common.h");
static_assert(sizeof(block_iq4_nl) == 18 && sizeof(block_mxfp4) == 17, "as in ggml-common.h");
static_assert(sizeof(block_q4_k) == 144 && sizeof(block_q5_k) == 176 && sizeof(block_q6_k) == 210, "as in ggml-common.h");
static_assert(sizeof(block_q2_k) == 84 && sizeof(block_q3_k) == 110 && sizeof(block_iq4_xs) == 136, "as in ggml-common.h");
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

// 16 bytes of nibbles of each of eight rows: the low ones are the first half of 32 columns.
static inline void unpack_nibbles(const uint8_t *qs, size_t stride, Strip &s) {
    __m256i x[4];
    transpose(qs, stride, x);
    for (int j = 0; j < 4; j++) {
        s.w[j] = low(x[j]);
        s.w[4 + j] = high(x[j]);
    }
}

// The same, nibbles as numbers of 16 values.
static inline void unpack_values(const uint8_t *qs, size_t stride, __m128i values, Strip &s) {
    unpack_nibbles(qs, stride, s);
    for (__m256i &w : s.w) w = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), w);
}

// Formats with a scale for each 32 columns; activations are Q8_0. `signs`: weights are signed bytes, else they are what
// is left after `offset` was added, and at most 31.
template <class Block> struct Halves {
    typedef Block block;
    static inline __m256 scales(const block *b, size_t stride) { return halves(&b->d, stride); }
};

struct Q8_0 : Halves<block_q8_0> {
    static constexpr bool signs = true;
    static constexpr int offset = 0;
    static inline void unpack(const block *b, size_t stride, Strip &s) {
        transpose(b->qs, stride, s.w);
        transpose(b->qs + 16, stride, s.w + 4);
    }
};

struct Q4_0 : Halves<block_q4_0> {
    static constexpr bool signs = false;
    static constexpr int offset = 8;
    static inline void unpack(const block *b, size_t stride, Strip &s) { unpack_nibbles(b->qs, stride, s); }
};

static inline __m128i iq4_values() { return _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113); }

struct IQ4_NL : Halves<block_iq4_nl> {
    static constexpr bool signs = true;
    static constexpr int offset = 0;
    static inline void unpack(const block *b, size_t stride, Strip &s) { unpack_values(b->qs, stride, iq4_values(), s); }
};

// A scale of MXFP4: half a power of two, by its exponent.
static inline float half_power(uint8_t e) {
    const uint32_t bits = e < 2 ? 0x00200000u << e : (uint32_t) (e - 1) << 23;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
// What its weights stand for, doubled, and 12 more: -12 to 12 become 0 to 24.
static inline __m128i mxfp4_values() { return _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0); }

// Twice the four-bit floats of the OCP Microscaling Formats Specification 1.0, and half their scale, a power of two.
struct MXFP4 {
    typedef block_mxfp4 block;
    static constexpr bool signs = false;
    static constexpr int offset = 12;
    static inline __m256 scales(const block *b, size_t stride) {
        float d[8];
        for (int i = 0; i < 8; i++) d[i] = half_power(((const block *) ((const char *) b + i * stride))->e);
        return _mm256_loadu_ps(d);
    }
    static inline void unpack(const block *b, size_t stride, Strip &s) {
        unpack_values(b->qs, stride, mxfp4_values(), s);
    }
};

struct Q5_0 : Halves<block_q5_0> {
    static constexpr bool signs = false;
    static constexpr int offset = 16;
    static inline void unpack(const block *b, size_t stride, Strip &s) {
        unpack_nibbles(b->qs, stride, s);
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

struct alignas(32) Scales6 {  // of formats with a scale for each 16 columns, for 8 strips
    __m256i scale[16];        // twice in a lane
    __m256i less[8];          // of a strip's two halves, in one lane: what the sums of an activation's quants are multiplied with
    __m256 d, dmin;
};

// 16 numbers of each of eight rows, as signed bytes: out[j] has number j of every row as int32.
static inline void spread(const void *from, size_t stride, __m256i out[16]) {
    __m256i x[4];
    transpose(from, stride, x);  // dword j: bytes 4j to 4j+3 of a row
    for (int j = 0; j < 4; j++) {
        out[4 * j] = _mm256_srai_epi32(_mm256_slli_epi32(x[j], 24), 24);
        out[4 * j + 1] = _mm256_srai_epi32(_mm256_slli_epi32(x[j], 16), 24);
        out[4 * j + 2] = _mm256_srai_epi32(_mm256_slli_epi32(x[j], 8), 24);
        out[4 * j + 3] = _mm256_srai_epi32(x[j], 24);
    }
}
static inline __m256i paired(__m256i a, __m256i b) { return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa); }

// Signed scales, which the weights' offset is multiplied with too.
static inline void unpack_signed_scales(const void *from, size_t stride, Scales6 &s) {
    __m256i words[16];
    spread(from, stride, words);
    for (int i = 0; i < 16; i++) s.scale[i] = paired(words[i], words[i]);
    for (int i = 0; i < 8; i++) s.less[i] = paired(words[2 * i], words[2 * i + 1]);
}

// Two bits of each of 32 columns in strip j of a half: bits 2j and 2j+1 of 32 bytes.
static inline __m256i two_bits(__m256i x, int j) { return _mm256_and_si256(j ? _mm256_srl_epi16(x, _mm_cvtsi32_si128(2 * j)) : x, bytes(3)); }

// Of these, `shift`: the weights' offset is 1 << shift; `minima`: it is one for each 16 columns instead, as a number of its
// own. `together`: how many products of a weight fit into 16 bits.
struct Q6_K {
    typedef block_q6_k block;
    typedef Scales6 Scales;
    static constexpr bool minima = false;
    static constexpr int shift = 5, together = 2;
    static inline void unpack(const block *b, size_t stride, Strip s[8], Scales &scales) {
        scales.d = halves(&b->d, stride);
        unpack_signed_scales(b->scales, stride, scales);
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

struct Q3_K {
    typedef block_q3_k block;
    typedef Scales6 Scales;
    static constexpr bool minima = false;
    static constexpr int shift = 2, together = 4;
    static inline void unpack(const block *b, size_t stride, Strip s[8], Scales &scales) {
        scales.d = halves(&b->d, stride);
        int8_t own[ROWS][16];  // four low bits and two high ones each, less 32
        for (int i = 0; i < ROWS; i++) {
            uint32_t u[3], v[4];
            memcpy(u, (const char *) b->scales + i * stride, 12);
            for (int j = 0; j < 4; j++) v[j] = ((u[j % 2] >> (j / 2 * 4)) & 0x0f0f0f0f) | (((u[2] >> (2 * j)) & 0x03030303) << 4);
            memcpy(own[i], v, 16);
            for (int8_t &scale : own[i]) scale -= 32;
        }
        unpack_signed_scales(own, 16, scales);
        __m256i bits[8];
        transpose(b->hmask, stride, bits);
        transpose(b->hmask + 16, stride, bits + 4);
        for (int half = 0; half < 2; half++) {
            __m256i x[8];
            transpose(b->qs + 32 * half, stride, x);
            transpose(b->qs + 32 * half + 16, stride, x + 4);
            for (int g = 0; g < 8; g++) {
                for (int j = 0; j < 4; j++) {
                    const __m256i bit = bytes(1 << (4 * half + j));
                    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bits[g], bit), bit);
                    s[4 * half + j].w[g] = _mm256_or_si256(two_bits(x[g], j), _mm256_and_si256(set, bytes(4)));
                }
            }
        }
    }
};

struct Q2_K {
    typedef block_q2_k block;
    typedef Scales6 Scales;
    static constexpr bool minima = true;
    static constexpr int shift = 0, together = 4;
    static inline void unpack(const block *b, size_t stride, Strip s[8], Scales &scales) {
        scales.d = halves(&b->d, stride);
        scales.dmin = halves(&b->dmin, stride);
        uint8_t scale[ROWS][16], minimum[ROWS][16];
        for (int i = 0; i < ROWS; i++) {
            const __m128i x = _mm_loadu_si128((const __m128i *) ((const char *) b->scales + i * stride)), four = _mm_set1_epi8(15);
            _mm_storeu_si128((__m128i *) scale[i], _mm_and_si128(x, four));
            _mm_storeu_si128((__m128i *) minimum[i], _mm_and_si128(_mm_srli_epi16(x, 4), four));
        }
        __m256i words[16];
        spread(scale, 16, words);
        for (int i = 0; i < 16; i++) scales.scale[i] = paired(words[i], words[i]);
        spread(minimum, 16, words);
        for (int i = 0; i < 8; i++) scales.less[i] = paired(words[2 * i], words[2 * i + 1]);
        for (int half = 0; half < 2; half++) {
            __m256i x[8];
            transpose(b->qs + 32 * half, stride, x);
            transpose(b->qs + 32 * half + 16, stride, x + 4);
            for (int g = 0; g < 8; g++)
                for (int j = 0; j < 4; j++) s[4 * half + j].w[g] = two_bits(x[g], j);
        }
    }
};

struct alignas(32) Scales8 {  // of IQ4_XS, for 8 strips
    __m256i scale[8];         // twice in a lane
    __m256 d;
};

struct IQ4_XS {
    typedef block_iq4_xs block;
    typedef Scales8 Scales;
    static inline void unpack(const block *b, size_t stride, Strip s[8], Scales &scales) {
        scales.d = halves(&b->d, stride);
        alignas(32) int32_t own[8][ROWS];
        for (int i = 0; i < ROWS; i++) {
            const block *row = (const block *) ((const char *) b + i * stride);
            for (int j = 0; j < 8; j++) own[j][i] = ((row->scales_l[j / 2] >> (j % 2 * 4) & 15) | (row->scales_h >> (2 * j) & 3) << 4) - 32;
        }
        for (int j = 0; j < 8; j++) {
            const __m256i x = _mm256_load_si256((const __m256i *) own[j]);
            scales.scale[j] = paired(x, x);
            unpack_values(b->qs + 16 * j, stride, iq4_values(), s[j]);
        }
    }
};
