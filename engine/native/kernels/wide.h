// Vectors with a lane of 32 bits for each row of a strip: 16 of AVX-512 with VNNI, else 8 of AVX2.
//
// And sums of products of bytes, four to a lane: with VNNI they are whole from the start; with AVX2 a few of them fit
// into 16 bits, two sums to a lane, that a scale makes one.
#pragma once
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __AVX512VNNI__
constexpr bool VNNI = true;
typedef __m512i Lanes;
typedef __m512 Reals;
#else
constexpr bool VNNI = false;
typedef __m256i Lanes;
typedef __m256 Reals;
#endif
constexpr int ROWS = sizeof(Lanes) / 4;  // of a strip

// Functions, and lambdas, that must become part of their caller, so that vectors stay in registers.
#define INLINED __attribute__((always_inline))
#define INLINE inline INLINED

// The same bits as numbers of other sizes, for operators.
typedef uint8_t Bytes __attribute__((vector_size(sizeof(Lanes))));
typedef uint16_t Words __attribute__((vector_size(sizeof(Lanes))));
typedef int16_t SignedWords __attribute__((vector_size(sizeof(Lanes))));
typedef int32_t Ints __attribute__((vector_size(sizeof(Lanes))));

static INLINE __m256i bytes(int x) { return _mm256_set1_epi8((char) x); }
static INLINE __m256i low(__m256i x) { return _mm256_and_si256(x, bytes(15)); }
static INLINE __m256i high(__m256i x) { return low(_mm256_srli_epi16(x, 4)); }

static INLINE Lanes every_byte(int x) { return (Lanes) (Bytes{} + (uint8_t) x); }
static INLINE Lanes left(Lanes x, int bits) { return (Lanes) ((Words) x << bits); }  // of 16 bits; those of a neighbour come along
static INLINE Lanes right(Lanes x, int bits) { return (Lanes) ((Words) x >> bits); }
static INLINE Lanes signed_right(Lanes x, int bits) { return (Lanes) ((SignedWords) x >> bits); }
static INLINE Lanes low_nibbles(Lanes x) { return x & every_byte(15); }
static INLINE Lanes high_nibbles(Lanes x) { return low_nibbles(right(x, 4)); }
static INLINE Lanes added(Lanes a, Lanes b) { return (Lanes) ((Ints) a + (Ints) b); }
static INLINE Lanes subtracted(Lanes a, Lanes b) { return (Lanes) ((Ints) a - (Ints) b); }

// `to` in each byte that has all bits of `bits`.
static INLINE Lanes where_set(Lanes x, Lanes bits, int to) { return (Lanes) ((Bytes) (x & bits) == (Bytes) bits) & every_byte(to); }

static INLINE Lanes from_memory(const void *p) {
    Lanes x;
    memcpy(&x, p, sizeof x);
    return x;
}

#ifdef __AVX512VNNI__
static INLINE Lanes repeated(int32_t x) { return _mm512_set1_epi32(x); }
static INLINE Reals repeated(float x) { return _mm512_set1_ps(x); }
static INLINE Lanes sixteen(__m128i x) { return _mm512_broadcast_i32x4(x); }  // bytes, in each 128 bits
static INLINE Lanes shuffled(Lanes x, Lanes at) { return _mm512_shuffle_epi8(x, at); }
static INLINE Lanes low_pairs(Lanes a, Lanes b) { return _mm512_unpacklo_epi32(a, b); }
static INLINE Lanes high_pairs(Lanes a, Lanes b) { return _mm512_unpackhi_epi32(a, b); }
static INLINE Lanes low_fours(Lanes a, Lanes b) { return _mm512_unpacklo_epi64(a, b); }
static INLINE Lanes high_fours(Lanes a, Lanes b) { return _mm512_unpackhi_epi64(a, b); }
static INLINE Reals low_halves(Lanes x) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(x)); }
static INLINE Reals of_ints(Lanes x) { return _mm512_cvtepi32_ps(x); }
static INLINE Reals fused(Reals a, Reals b, Reals c) { return _mm512_fmadd_ps(a, b, c); }
static INLINE Reals fused_less(Reals a, Reals b, Reals c) { return _mm512_fnmadd_ps(a, b, c); }

// What `at` has of row 0, and of each fourth from there on.
template <class At> static INLINE Lanes each_fourth(At at) {
    const __m256i first = _mm256_inserti128_si256(_mm256_castsi128_si256(at(0)), at(4), 1);
    const __m256i last = _mm256_inserti128_si256(_mm256_castsi128_si256(at(8)), at(12), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(first), last, 1);
}

// Sums of four products of weights, which are not signed, and quants. Any number of them is a sum.
static INLINE Lanes dots(Lanes weights, Lanes quants) { return _mm512_dpbusd_epi32(Lanes{}, weights, quants); }
static INLINE Lanes more_dots(Lanes x, Lanes weights, Lanes quants) { return _mm512_dpbusd_epi32(x, weights, quants); }
static INLINE Lanes whole(Lanes x) { return x; }

// A sum times a scale, a number of 16 bits that is a factor like this.
static INLINE Lanes factor(Lanes scale) { return scale; }
static INLINE Lanes scaled(Lanes x, Lanes factor) { return (Lanes) ((Ints) x * (Ints) factor); }

// c plus the sum of two products of words.
static INLINE Lanes with_pairs(Lanes c, Lanes a, Lanes b) { return _mm512_dpwssd_epi32(c, a, b); }
#else
static INLINE Lanes repeated(int32_t x) { return _mm256_set1_epi32(x); }
static INLINE Reals repeated(float x) { return _mm256_set1_ps(x); }
static INLINE Lanes sixteen(__m128i x) { return _mm256_broadcastsi128_si256(x); }
static INLINE Lanes shuffled(Lanes x, Lanes at) { return _mm256_shuffle_epi8(x, at); }
static INLINE Lanes low_pairs(Lanes a, Lanes b) { return _mm256_unpacklo_epi32(a, b); }
static INLINE Lanes high_pairs(Lanes a, Lanes b) { return _mm256_unpackhi_epi32(a, b); }
static INLINE Lanes low_fours(Lanes a, Lanes b) { return _mm256_unpacklo_epi64(a, b); }
static INLINE Lanes high_fours(Lanes a, Lanes b) { return _mm256_unpackhi_epi64(a, b); }
static INLINE Reals low_halves(Lanes x) {
    const __m256i y = _mm256_and_si256(x, _mm256_set1_epi32(0xffff));
    return _mm256_cvtph_ps(_mm_packus_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1)));
}
static INLINE Reals of_ints(Lanes x) { return _mm256_cvtepi32_ps(x); }
static INLINE Reals fused(Reals a, Reals b, Reals c) { return _mm256_fmadd_ps(a, b, c); }
static INLINE Reals fused_less(Reals a, Reals b, Reals c) { return _mm256_fnmadd_ps(a, b, c); }

template <class At> static INLINE Lanes each_fourth(At at) { return _mm256_inserti128_si256(_mm256_castsi128_si256(at(0)), at(4), 1); }

// Up to so many that 16 bits hold them.
static INLINE Lanes dots(Lanes weights, Lanes quants) { return _mm256_maddubs_epi16(weights, quants); }
static INLINE Lanes more_dots(Lanes x, Lanes weights, Lanes quants) { return _mm256_add_epi16(x, dots(weights, quants)); }
static INLINE Lanes whole(Lanes x) { return _mm256_madd_epi16(x, _mm256_set1_epi16(1)); }

static INLINE Lanes factor(Lanes scale) { return _mm256_blend_epi16(scale, _mm256_slli_epi32(scale, 16), 0xaa); }
static INLINE Lanes scaled(Lanes x, Lanes factor) { return _mm256_madd_epi16(x, factor); }

static INLINE Lanes with_pairs(Lanes c, Lanes a, Lanes b) { return _mm256_add_epi32(c, _mm256_madd_epi16(a, b)); }
#endif

static INLINE Lanes repeated(const void *four_bytes) {
    int32_t x;
    memcpy(&x, four_bytes, 4);
    return repeated(x);
}
