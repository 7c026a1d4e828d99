// Products with more than a few tokens: panels of weights, each unpacked once and multiplied with all tokens.
//
// A format F says how: `block` of weights and `activation` as they are in memory, `factor` as a token is multiplied,
// `rows` and `tokens` of a tile, `most` blocks of a panel's rows at a time, so that it stays in the cache.
#pragma once
#include <type_traits>

#include "host.h"
#include "tiles.h"

// One tile: up to N tokens times a panel.
template <class F, int N> struct Tile {
    static inline void multiply(int count, const typename F::Panel *p, int64_t k, const typename F::factor *const *tokens,
                                const Column *c, Reals *out) {
        if (count == N) F::template multiply<N>(p, k, tokens, c, out);
        else Tile<F, N - 1>::multiply(count, p, k, tokens, c, out);
    }
};
template <class F> struct Tile<F, 0> {
    static inline void multiply(int, const typename F::Panel *, int64_t, const typename F::factor *const *, const Column *, Reals *) {}
};

// A column of results of a tile, into memory or added to what is there.
static inline void put(const Reals *from, float *to, int64_t count, bool add) {
    int64_t i = 0;
    for (; i + ROWS <= count; i += ROWS, from++) {
        const Reals sum = add ? *from + (Reals) from_memory(to + i) : *from;
        memcpy(to + i, &sum, sizeof sum);
    }
    for (const float *rest = (const float *) from; i < count; i++, rest++) to[i] = add ? to[i] + *rest : *rest;
}

template <class F> static bool by_panels(const Product &product) {
    typedef typename F::block Block;
    typedef typename F::Panel Panel;
    typedef typename F::factor Factor;
    typedef typename F::activation Token;
    constexpr bool converted = !std::is_same<Token, Factor>::value;
    const int64_t m = product.m, n = product.n, k = product.k, lda = product.lda;
    const auto *A = (const Block *) product.A;
    static thread_local Buffer<Panel> panel_buffer;
    static thread_local Buffer<Column> column_buffer;
    static thread_local Buffer<Block> rest_buffer;
    static thread_local Buffer<Factor> token_buffer;
    const int64_t panels = (m + F::rows - 1) / F::rows, groups = (n + F::tokens - 1) / F::tokens, size = (n + groups - 1) / groups;
    const int64_t most = least(k, F::most);
    int64_t per = panels / (product.params->nth * 4);  // panels of a job: so many that tokens are read seldom and no thread waits long
    per = per < 1 ? 1 : least(per, 4);
    const int64_t jobs = (panels + per - 1) / per;
    product.begin();
    Panel *panel = panel_buffer.get(per * most);
    Column *columns = F::columns ? column_buffer.get(groups * k) : nullptr;
    Factor *tokens_here = converted ? token_buffer.get(F::tokens * most) : nullptr;
    const Factor *tokens[F::tokens];
    if constexpr (F::columns) {
        for (int64_t g = 0; g < groups; g++) {
            const int count = (int) least(n - size * g, size);
            for (int64_t b = 0; b < k; b++) {
                for (int t = 0; t < count; t++) tokens[t] = product.token<Factor>(size * g + t) + b;
                F::column(tokens, count, columns[g * k + b]);
            }
        }
    }
    product.meet();
    for (int64_t job = product.params->ith; job < jobs; job = product.next(job)) {
        const int64_t first = job * per, last = least(first + per, panels);
        for (int64_t from = 0; from < k; from += most) {
            const int64_t width = least(k - from, most);
            for (int64_t q = first; q < last; q++) {
                const Block *rows = A + q * F::rows * lda + from;
                size_t apart = lda * sizeof(Block);
                const int64_t count = least(m - q * F::rows, F::rows);
                if (count < F::rows) {  // the last rows, and zeros
                    Block *rest = rest_buffer.get(F::rows * width);
                    memset((void *) rest, 0, F::rows * width * sizeof(Block));
                    for (int64_t i = 0; i < count; i++) memcpy((void *) (rest + i * width), rows + i * lda, width * sizeof(Block));
                    rows = rest;
                    apart = width * sizeof(Block);
                }
                F::unpack(rows, apart, width, panel + (q - first) * width);
            }
            for (int64_t g = 0; g < groups; g++) {
                const int count = (int) least(n - size * g, size);
                for (int t = 0; t < count; t++) {
                    const Token *token = product.token<Token>(size * g + t) + from;
                    if constexpr (converted) {
                        F::convert(token, width, tokens_here + t * most);
                        tokens[t] = tokens_here + t * most;
                    } else {
                        tokens[t] = token;
                    }
                }
                for (int64_t q = first; q < last; q++) {
                    Reals out[F::tokens * F::rows / ROWS] = {};
                    const Column *c = F::columns ? columns + g * k + from : nullptr;
                    Tile<F, F::tokens>::multiply(count, panel + (q - first) * width, width, tokens, c, out);
                    const int64_t row = q * F::rows;
                    for (int t = 0; t < count; t++)
                        put(out + t * (F::rows / ROWS), product.results(size * g + t) + row, least(m - row, F::rows), from > 0);
                }
            }
        }
    }
    product.meet();
    return true;
}
