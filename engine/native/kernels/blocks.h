// Quantised blocks as ggml lays them out in files and in memory, and how as many rows of them as a vector has lanes become
// bytes side by side.
//
// A strip is these rows by as many columns as share a scale, in groups of four: group g has columns 4g to 4g+3 of row i in
// its bytes 4i to 4i+3. So one 32-bit lane is one row, and four bytes of an activation, repeated in every lane, meet the
// weights of all rows.
//
// A format has `count` strips of `groups` groups in a block. Its function `strips` calls use(i, w) for each of them, in any
// order; w(g) is group g of strip i, made where it is asked for: who multiplies it at once never stores it.
#pragma once
#include "wide.h"

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

// 16 bytes of each row, `stride` bytes apart: out[j] has dword j of every row.
static INLINE void transpose(const void *from, size_t stride, Lanes out[4]) {
    Lanes r[4];
    for (int i = 0; i < 4; i++)
        r[i] = each_fourth([=](int row) { return _mm_loadu_si128((const __m128i *) ((const char *) from + (i + row) * stride)); });
    const Lanes a = low_pairs(r[0], r[1]), b = high_pairs(r[0], r[1]), c = low_pairs(r[2], r[3]), d = high_pairs(r[2], r[3]);
    out[0] = low_fours(a, c);
    out[1] = high_fours(a, c);
    out[2] = low_fours(b, d);
    out[3] = high_fours(b, d);
}

// Four bytes of each row.
static INLINE Lanes dwords(const void *from, size_t stride) {
    return each_fourth([=](int row) {
        int32_t x[4];
        for (int i = 0; i < 4; i++) memcpy(&x[i], (const char *) from + (row + i) * stride, 4);
        return _mm_setr_epi32(x[0], x[1], x[2], x[3]);
    });
}

// As unsigned numbers, and as signed ones: byte i of each lane.
static INLINE Lanes byte_of(Lanes x, int i) { return (Lanes) ((Ints) x >> 8 * i) & repeated(0xff); }
static INLINE Lanes signed_byte_of(Lanes x, int i) { return (Lanes) ((Ints) x << (24 - 8 * i) >> 24); }

// The upper half of each lane, in its place the bits of the next four bytes' lower one.
static INLINE Lanes upper(Lanes x) { return (Lanes) ((Ints) x >> 16); }
static INLINE Lanes across(Lanes x, Lanes next) { return (upper(x) & repeated(0xffff)) | (Lanes) ((Ints) next << 16); }

// 16 bytes of nibbles of each row: the low ones are the first half of 32 columns.
struct Nibbles {
    Lanes x[4];
    INLINE Nibbles(const uint8_t *qs, size_t stride) { transpose(qs, stride, x); }
    INLINE Lanes operator()(int g) const { return g < 4 ? low_nibbles(x[g]) : high_nibbles(x[g - 4]); }
};

// The same, nibbles as numbers of 16 values.
struct Values {
    Nibbles nibbles;
    Lanes values;
    INLINE Values(const uint8_t *qs, size_t stride, __m128i values) : nibbles(qs, stride), values(sixteen(values)) {}
    INLINE Lanes operator()(int g) const { return shuffled(values, nibbles(g)); }
};

// Formats with a scale for each 32 columns; activations are Q8_0. `signs`: weights are signed bytes, else they are what
// is left after `offset` was added, and at most 31.
template <class Block> struct Halves {
    typedef Block block;
    static constexpr int count = 1, groups = 8;
    static INLINE Reals scales(const block *b, size_t stride) { return low_halves(dwords(&b->d, stride)); }
};

struct Q8_0 : Halves<block_q8_0> {
    static constexpr bool signs = true;
    static constexpr int offset = 0;
    template <class Use> static INLINE void strips(const block *b, size_t stride, Use use) {
        Lanes x[8];
        transpose(b->qs, stride, x);
        transpose(b->qs + 16, stride, x + 4);
        use(0, [&](int g) INLINED { return x[g]; });
    }
};

struct Q4_0 : Halves<block_q4_0> {
    static constexpr bool signs = false;
    static constexpr int offset = 8;
    template <class Use> static INLINE void strips(const block *b, size_t stride, Use use) { use(0, Nibbles(b->qs, stride)); }
};

static INLINE __m128i iq4_values() { return _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113); }

struct IQ4_NL : Halves<block_iq4_nl> {
    static constexpr bool signs = true;
    static constexpr int offset = 0;
    template <class Use> static INLINE void strips(const block *b, size_t stride, Use use) { use(0, Values(b->qs, stride, iq4_values())); }
};

// A scale of MXFP4: half a power of two, by its exponent.
static INLINE float half_power(uint8_t e) {
    const uint32_t bits = e < 2 ? 0x00200000u << e : (uint32_t) (e - 1) << 23;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
// What its weights stand for, doubled, and 12 more: -12 to 12 become 0 to 24.
static INLINE __m128i mxfp4_values() { return _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0); }

// Twice the four-bit floats of the OCP Microscaling Formats Specification 1.0, and half their scale, a power of two.
struct MXFP4 {
    typedef block_mxfp4 block;
    static constexpr int count = 1, groups = 8;
    static constexpr bool signs = false;
    static constexpr int offset = 12;
    static INLINE Reals scales(const block *b, size_t stride) {
        const Ints e = (Ints) byte_of(dwords(b, stride), 0);
        const Ints is_small = e < 2, small = (Ints{} + 0x00200000) << e, normal = (e - 1) << 23;  // as half_power does it
        return (Reals) ((is_small & small) | (~is_small & normal));
    }
    template <class Use> static INLINE void strips(const block *b, size_t stride, Use use) { use(0, Values(b->qs, stride, mxfp4_values())); }
};

struct Q5_0 : Halves<block_q5_0> {
    static constexpr bool signs = false;
    static constexpr int offset = 16;
    template <class Use> static INLINE void strips(const block *b, size_t stride, Use use) {
        const Nibbles nibbles(b->qs, stride);
        const Lanes bits = dwords(b->qh, stride), odd = repeated((int) 0x80402010), even = repeated(0x08040201);
        const Lanes rows = sixteen(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
        use(0, [&](int g) INLINED { return nibbles(g) | where_set(shuffled(bits, rows | every_byte(g / 2)), g % 2 ? odd : even, 16); });
    }
};

// Formats with blocks of 256 columns and integer scales inside; activations are Q8_K. Beside the scales of strips there are
// whole numbers that the sums of an activation's quants are multiplied with: two in a lane, first numbers 0 and 2 of four,
// then 1 and 3.
static INLINE Lanes first_and_third(Lanes bytes) { return bytes & repeated(0x00ff00ff); }
static INLINE Lanes second_and_fourth(Lanes bytes) { return first_and_third(right(bytes, 8)); }
static INLINE Lanes paired(Lanes a, Lanes b) { return (a & repeated(0xffff)) | (Lanes) ((Ints) b << 16); }

struct Scales4 {  // of Q4_K and Q5_K
    Lanes scale[8], minima[4];
    Reals d, dmin;
};

static INLINE Scales4 unpack_scales(const uint16_t *d, const uint8_t *scales, size_t stride) {
    Scales4 s;
    Lanes u[4];
    transpose(scales, stride, u);  // 12 bytes, and four more of the block
    const Lanes six = every_byte(0x3f), four = every_byte(15), two = every_byte(0x30);
    const Lanes scale[] = {u[0] & six, (u[2] & four) | (right(u[0], 2) & two)};
    const Lanes minima[] = {u[1] & six, (right(u[2], 4) & four) | (right(u[1], 2) & two)};
    for (int j = 0; j < 8; j++) s.scale[j] = factor(byte_of(scale[j / 4], j % 4));
    for (int j = 0; j < 4; j++) s.minima[j] = j % 2 ? second_and_fourth(minima[j / 2]) : first_and_third(minima[j / 2]);
    const Lanes both = dwords(d, stride);
    s.d = low_halves(both);
    s.dmin = low_halves(upper(both));
    return s;
}

struct Q4_K {
    typedef block_q4_k block;
    static constexpr int count = 8, groups = 8;
    static INLINE Scales4 scales(const block *b, size_t stride) { return unpack_scales(&b->d, b->scales, stride); }
    template <class Use> static INLINE void strips(const block *b, size_t stride, Use use) {
#pragma GCC unroll 1
        for (int i = 0; i < 4; i++) {
            Lanes x[8];
            transpose(b->qs + 32 * i, stride, x);
            transpose(b->qs + 32 * i + 16, stride, x + 4);
            use(2 * i, [&](int g) INLINED { return low_nibbles(x[g]); });
            use(2 * i + 1, [&](int g) INLINED { return high_nibbles(x[g]); });
        }
    }
};

struct Q5_K {
    typedef block_q5_k block;
    static constexpr int count = 8, groups = 8;
    static INLINE Scales4 scales(const block *b, size_t stride) { return unpack_scales(&b->d, b->scales, stride); }
    template <class Use> static INLINE void strips(const block *b, size_t stride, Use use) {
        Lanes bits[8];
        transpose(b->qh, stride, bits);
        transpose(b->qh + 16, stride, bits + 4);
        const auto fifth = [&](int g, int up) INLINED { return left(bits[g], up) & every_byte(16); };
#pragma GCC unroll 1
        for (int i = 0; i < 4; i++) {
            Lanes x[8];
            transpose(b->qs + 32 * i, stride, x);
            transpose(b->qs + 32 * i + 16, stride, x + 4);
            use(2 * i, [&](int g) INLINED { return low_nibbles(x[g]) | fifth(g, 4); });
            use(2 * i + 1, [&](int g) INLINED { return high_nibbles(x[g]) | fifth(g, 3); });
            for (Lanes &two : bits) two = right(two, 2);
        }
    }
};

struct Scales6 {  // of formats with a scale for each 16 columns
    Lanes scale[16], less[8];
    Reals d, dmin;
};

// Signed scales, which the weights' offset is multiplied with too.
static INLINE void unpack_signed_scales(const Lanes bytes[4], Scales6 &s) {
    for (int i = 0; i < 16; i++) s.scale[i] = factor(signed_byte_of(bytes[i / 4], i % 4));
    for (int i = 0; i < 8; i++) s.less[i] = signed_right(i % 2 ? bytes[i / 2] : left(bytes[i / 2], 8), 8);
}

// Two bits of each of 32 columns in strip j of a half: bits 2j and 2j+1 of 32 bytes.
static INLINE Lanes two_bits(Lanes x, int j) { return right(x, 2 * j) & every_byte(3); }

// Of these, `shift`: the weights' offset is 1 << shift; `minima`: it is one for each 16 columns instead, as a number of its
// own. `together`: how many products of a weight fit into 16 bits.
struct Q6_K {
    typedef block_q6_k block;
    static constexpr int count = 16, groups = 4;
    static constexpr bool minima = false;
    static constexpr int shift = 5, together = 2;
    static INLINE Scales6 scales(const block *b, size_t stride) {
        Scales6 s;
        s.d = low_halves(upper(dwords((const char *) &b->d - 2, stride)));
        Lanes own[4];
        transpose(b->scales, stride, own);
        unpack_signed_scales(own, s);
        return s;
    }
    template <class Use> static INLINE void strips(const block *b, size_t stride, Use use) {
        const Lanes two = every_byte(0x30);
#pragma GCC unroll 1
        for (int i = 0; i < 4; i++) {
            const int half = i / 2, part = i % 2, to = 8 * half + part;
            Lanes l0[4], l1[4], h[4];
            transpose(b->ql + 64 * half + 16 * part, stride, l0);
            transpose(b->ql + 64 * half + 32 + 16 * part, stride, l1);
            transpose(b->qh + 32 * half + 16 * part, stride, h);
            use(to, [&](int g) INLINED { return low_nibbles(l0[g]) | (left(h[g], 4) & two); });
            use(to + 4, [&](int g) INLINED { return high_nibbles(l0[g]) | (h[g] & two); });
            use(to + 2, [&](int g) INLINED { return low_nibbles(l1[g]) | (left(h[g], 2) & two); });
            use(to + 6, [&](int g) INLINED { return high_nibbles(l1[g]) | (right(h[g], 2) & two); });
        }
    }
};

struct Q3_K {
    typedef block_q3_k block;
    static constexpr int count = 16, groups = 4;
    static constexpr bool minima = false;
    static constexpr int shift = 2, together = 4;
    static INLINE Scales6 scales(const block *b, size_t stride) {
        Scales6 s;
        Lanes x[4], own[4];
        transpose(b->scales - 2, stride, x);  // two bytes more, before the scales; behind them the block's scale
        s.d = low_halves(upper(x[3]));
        const Lanes u[] = {across(x[0], x[1]), across(x[1], x[2]), across(x[2], x[3])};
        for (int j = 0; j < 4; j++) {  // four low bits and two high ones each, less 32
            const Lanes bits = (right(u[j % 2], j / 2 * 4) & every_byte(15)) | (left(right(u[2], 2 * j) & every_byte(3), 4));
            own[j] = (Lanes) ((Bytes) bits - 32);
        }
        unpack_signed_scales(own, s);
        return s;
    }
    template <class Use> static INLINE void strips(const block *b, size_t stride, Use use) {
#pragma GCC unroll 1
        for (int part = 0; part < 2; part++) {
            Lanes bits[4];
            transpose(b->hmask + 16 * part, stride, bits);
#pragma GCC unroll 1
            for (int half = 0; half < 2; half++) {
                Lanes x[4];
                transpose(b->qs + 32 * half + 16 * part, stride, x);
                const auto third = [&](int g, int j) INLINED { return (j < 2 ? left(bits[g], 2 - j) : right(bits[g], j - 2)) & every_byte(4); };
#pragma GCC unroll 4
                for (int j = 0; j < 4; j++) use(8 * half + 2 * j + part, [&](int g) INLINED { return two_bits(x[g], j) | third(g, j); });
                for (Lanes &four : bits) four = right(four, 4);
            }
        }
    }
};

struct Q2_K {
    typedef block_q2_k block;
    static constexpr int count = 16, groups = 4;
    static constexpr bool minima = true;
    static constexpr int shift = 0, together = 4;
    static INLINE Scales6 scales(const block *b, size_t stride) {
        Scales6 s;
        const Lanes both = dwords(&b->d, stride);
        s.d = low_halves(both);
        s.dmin = low_halves(upper(both));
        Lanes x[4];
        transpose(b->scales, stride, x);
        for (int i = 0; i < 16; i++) s.scale[i] = factor(byte_of(low_nibbles(x[i / 4]), i % 4));
        for (int i = 0; i < 8; i++) s.less[i] = i % 2 ? second_and_fourth(high_nibbles(x[i / 2])) : first_and_third(high_nibbles(x[i / 2]));
        return s;
    }
    template <class Use> static INLINE void strips(const block *b, size_t stride, Use use) {
#pragma GCC unroll 1
        for (int i = 0; i < 4; i++) {
            Lanes x[4];
            transpose(b->qs + 16 * i, stride, x);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++) use(i / 2 * 8 + 2 * j + i % 2, [&](int g) INLINED { return two_bits(x[g], j); });
        }
    }
};

struct Scales8 {  // of IQ4_XS
    Lanes scale[8], less[4];
    Reals d;
};

struct IQ4_XS {
    typedef block_iq4_xs block;
    static constexpr int count = 8, groups = 8;
    static INLINE Scales8 scales(const block *b, size_t stride) {
        Scales8 s;
        const Lanes head = dwords(b, stride), low_bits = dwords(b->scales_l, stride), high_bits = upper(head);
        s.d = low_halves(head);
        Lanes own[8];
        for (int j = 0; j < 8; j++) {
            const Ints four = ((Ints) low_bits >> 4 * j) & 15, two = ((Ints) high_bits >> 2 * j) & 3;
            own[j] = (Lanes) ((four | two << 4) - 32);
            s.scale[j] = factor(own[j]);
        }
        for (int j = 0; j < 4; j++) s.less[j] = paired(own[j / 2 * 4 + j % 2], own[j / 2 * 4 + j % 2 + 2]);
        return s;
    }
    template <class Use> static INLINE void strips(const block *b, size_t stride, Use use) {
#pragma GCC unroll 1
        for (int j = 0; j < 8; j++) use(j, Values(b->qs + 16 * j, stride, iq4_values()));
    }
};
