// Products with two or more tokens: panels of weights, each unpacked once and multiplied with all tokens.
#pragma once
#include "host.h"
#include "tiles.h"

// One tile: up to N tokens times a panel.
template <class F, int N> struct Tile {
    static inline void multiply(int count, const typename F::Panel *p, int64_t k, const typename F::activation *const *tokens,
                                const Column *c, __m256 *out) {
        if (count == N) F::template multiply<N>(p, k, tokens, c, out);
        else Tile<F, N - 1>::multiply(count, p, k, tokens, c, out);
    }
};
template <class F> struct Tile<F, 0> {
    static inline void multiply(int, const typename F::Panel *, int64_t, const typename F::activation *const *, const Column *, __m256 *) {}
};

template <class F> static bool by_panels(const Product &product) {
    typedef typename F::block Block;
    typedef typename F::Panel Panel;
    const auto [params, m, n, k, weights, lda, activations, ldb, C, ldc, counted] = product;
    const auto *A = (const Block *) weights;
    const auto *B = (const typename F::activation *) activations;
    static thread_local Buffer<Panel> panel_buffer;
    static thread_local Buffer<Column> column_buffer;
    static thread_local Buffer<Block> rest_buffer;
    const int64_t panels = (m + F::rows - 1) / F::rows, groups = (n + F::tokens - 1) / F::tokens, size = (n + groups - 1) / groups;
    int64_t per = panels / (params->nth * 4);  // panels of a job: so many that tokens are read seldom and no thread waits long
    per = per < 1 ? 1 : least(per, 4);
    const int64_t jobs = (panels + per - 1) / per;
    const size_t stride = lda * sizeof(Block);
    if (!counted && params->ith == 0) ggml.set_chunk(params->threadpool, params->nth);
    Panel *panel = panel_buffer.get(per * k);
    Column *columns = F::columns ? column_buffer.get(groups * k) : nullptr;
    const typename F::activation *tokens[F::tokens];
    if constexpr (F::columns) {
        for (int64_t g = 0; g < groups; g++) {
            const int count = (int) least(n - size * g, size);
            for (int64_t b = 0; b < k; b++) {
                for (int t = 0; t < count; t++) tokens[t] = B + (size * g + t) * ldb + b;
                F::column(tokens, count, columns[g * k + b]);
            }
        }
    }
    if (!counted) ggml.barrier(params->threadpool);
    for (int64_t job = params->ith; job < jobs; job = ggml.next_chunk(params->threadpool, 1)) {
        const int64_t first = job * per, last = least(first + per, panels);
        for (int64_t q = first; q < last; q++) {
            const Block *rows = A + q * F::rows * lda;
            size_t apart = stride;
            const int64_t count = least(m - q * F::rows, F::rows);
            if (count < F::rows) {  // the last rows, and zeros
                Block *rest = rest_buffer.get(F::rows * k);
                memset((void *) rest, 0, F::rows * k * sizeof(Block));
                for (int64_t i = 0; i < count; i++) memcpy((void *) (rest + i * k), rows + i * lda, k * sizeof(Block));
                rows = rest;
                apart = k * sizeof(Block);
            }
            F::unpack(rows, apart, k, panel + (q - first) * k);
        }
        for (int64_t g = 0; g < groups; g++) {
            const int count = (int) least(n - size * g, size);
            for (int t = 0; t < count; t++) tokens[t] = B + (size * g + t) * ldb;
            for (int64_t q = first; q < last; q++) {
                __m256 out[F::tokens * F::rows / 8] = {};
                Tile<F, F::tokens>::multiply(count, panel + (q - first) * k, k, tokens, columns + (F::columns ? g * k : 0), out);
                const int64_t row = q * F::rows, there = least(m - row, F::rows);
                for (int t = 0; t < count; t++) {
                    float *to = C + (size * g + t) * ldc + row;
                    const __m256 *from = out + t * (F::rows / 8);
                    if (there == F::rows) {
                        for (int i = 0; i < F::rows / 8; i++) _mm256_storeu_ps(to + 8 * i, from[i]);
                    } else {
                        memcpy(to, from, there * sizeof(float));
                    }
                }
            }
        }
    }
    if (!counted) ggml.barrier(params->threadpool);
    return true;
}
