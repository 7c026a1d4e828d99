// What a convolution is made into before it is a matrix product (im2col): for each pixel of the result a row with the
// pixels that it is made of, of every channel, in halves.
//
// The pixels of one row of the result come from a few rows of the image. These are made halves once, with the zeros beside
// the image; then 8 of a pixel's row, for 8 pixels next to each other, are brought side by side at a time.
#pragma once
#include "host.h"

struct Unfolding {
    const ggml_tensor *image, *dst;
    int64_t channels, height, width, kernel_height, kernel_width, rows, columns, images;  // rows and columns of the result
    int64_t step_x, step_y, pad_x, pad_y, apart_x, apart_y;

    int64_t taps() const { return channels * kernel_height * kernel_width; }
    int64_t span() const { return (columns - 1) * step_x + (kernel_width - 1) * apart_x + 1; }  // pixels in one row of the image, zeros included
};

// Eight rows of eight halves: afterwards r[j] has number j of every row.
static inline void transpose(__m128i r[8]) {
    __m128i a[8], b[8];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 2; j++) {
            b[4 * i + 2 * j] = _mm_unpacklo_epi32(a[4 * i + j], a[4 * i + 2 + j]);
            b[4 * i + 2 * j + 1] = _mm_unpackhi_epi32(a[4 * i + j], a[4 * i + 2 + j]);
        }
    }
    for (int j = 0; j < 4; j++) {
        r[2 * j] = _mm_unpacklo_epi64(b[j], b[4 + j]);
        r[2 * j + 1] = _mm_unpackhi_epi64(b[j], b[4 + j]);
    }
}

// A row of a channel, from column -pad_x on, as halves.
static inline void pad_row(const Unfolding &u, const char *row, int64_t span, uint16_t *to) {
    const int64_t first = least(u.pad_x, span), last = least(u.pad_x + u.width, span);
    memset(to, 0, first * 2);
    if (u.image->type == TYPE_F16) {
        memcpy(to + first, row, (last - first) * 2);
    } else {
        const float *from = (const float *) row - first;
        int64_t x = first;
        for (; x + 8 <= last; x += 8) _mm_storeu_si128((__m128i *) (to + x), _mm256_cvtps_ph(_mm256_loadu_ps(from + x), _MM_FROUND_TO_NEAREST_INT));
        for (; x < last; x++) to[x] = _cvtss_sh(from[x], _MM_FROUND_TO_NEAREST_INT);
    }
    memset(to + last, 0, (span - last) * 2);
}

// One row of the result. `rows` has the image's rows that it needs, channel by channel; `at` where each tap begins in them.
static void unfold_row(const Unfolding &u, const uint16_t *rows, const int32_t *at, uint16_t *dst) {
    const int64_t taps = u.taps();
    int64_t x = 0;
    for (; u.step_x == 1 && x + 8 <= u.columns; x += 8) {
        uint16_t *to = dst + x * taps;
        int64_t t = 0;
        for (; t + 8 <= taps; t += 8) {
            __m128i r[8];
            for (int i = 0; i < 8; i++) r[i] = _mm_loadu_si128((const __m128i *) (rows + at[t + i] + x));
            transpose(r);
            for (int i = 0; i < 8; i++) _mm_storeu_si128((__m128i *) (to + i * taps + t), r[i]);
        }
        for (; t < taps; t++)
            for (int i = 0; i < 8; i++) to[i * taps + t] = rows[at[t] + x + i];
    }
    for (; x < u.columns; x++)
        for (int64_t t = 0; t < taps; t++) dst[x * taps + t] = rows[at[t] + x * u.step_x];
}

// Fills `u`; false for operations that are not done here.
static bool describe(const ggml_tensor *dst, Unfolding &u) {
    const ggml_tensor *kernel = dst->src[0], *image = dst->src[1];
    const int *p = dst->op_params;
    u = {image, dst, image->ne[2], image->ne[1], image->ne[0], kernel->ne[1], kernel->ne[0], dst->ne[2], dst->ne[1], image->ne[3], p[0], p[1], p[2], p[3], p[4], p[5]};
    const size_t number = image->type == TYPE_F16 ? 2 : 4;
    return p[6] == 1 && dst->type == TYPE_F16 && (image->type == TYPE_F16 || image->type == TYPE_F32) && image->nb[0] == number;
}

static bool unfolded(const ggml_compute_params *params, ggml_tensor *dst) {
    static thread_local Buffer<uint16_t> row_buffer;
    static thread_local Buffer<int32_t> tap_buffer;
    Unfolding u;
    if (!describe(dst, u)) return false;
    const int64_t span = u.span(), taps = u.taps();
    uint16_t *rows = row_buffer.get(u.channels * u.kernel_height * span);
    int32_t *at = tap_buffer.get(taps);
    for (int64_t c = 0, t = 0; c < u.channels * u.kernel_height; c++)
        for (int64_t x = 0; x < u.kernel_width; x++) at[t++] = (int32_t) (c * span + x * u.apart_x);
    for (int64_t job = params->ith; job < u.images * u.rows; job += params->nth) {
        const int64_t image = job / u.rows, y = job % u.rows;
        for (int64_t c = 0; c < u.channels; c++) {
            for (int64_t i = 0; i < u.kernel_height; i++) {
                const int64_t from = y * u.step_y + i * u.apart_y - u.pad_y;
                uint16_t *to = rows + (c * u.kernel_height + i) * span;
                if (from < 0 || from >= u.height) memset(to, 0, span * 2);
                else pad_row(u, (const char *) u.image->data + image * u.image->nb[3] + c * u.image->nb[2] + from * u.image->nb[1], span, to);
            }
        }
        unfold_row(u, rows, at, (uint16_t *) dst->data + job * u.columns * taps);
    }
    return true;
}
