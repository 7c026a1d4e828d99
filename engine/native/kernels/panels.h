// Products with more than one token, some rows at a time: panels of weights, each unpacked once and multiplied with all
// tokens; or, with so few that it does not pay to write one, weights that are unpacked where they are multiplied.
//
// A format F says how: `block` of weights and `activation` as they are in memory, `factor` as a token is multiplied,
// `rows` and `tokens` of a tile, `most` blocks of a panel's rows at a time, so that it stays in the cache.
#pragma once
#include "host.h"
#include "tiles.h"

// One tile: `least` to N tokens times some rows.
template <class F, int N, int least> struct Tile {
    template <class From>
    static inline void multiply(int count, From from, int64_t k, const typename F::factor *const *tokens, const typename F::Column *c, Reals *out) {
        if constexpr (N > least)
            if (count < N) return Tile<F, N - 1, least>::multiply(count, from, k, tokens, c, out);
        F::template multiply<N>(from, k, tokens, c, out);
    }
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
    typedef typename F::Column Column;
    typedef typename F::activation Token;
    constexpr bool converted = !std::is_same<Token, Factor>::value;
    const int64_t m = product.m, n = product.n, k = product.k, lda = product.lda;
    const auto *A = (const Block *) product.A;
    static thread_local Buffer<Panel> panel_buffer;
    static thread_local Buffer<Column> column_buffer;
    static thread_local Buffer<Block> rest_buffer;
    static thread_local Buffer<Factor> token_buffer;
    const int64_t panels = (m + F::rows - 1) / F::rows, groups = (n + F::tokens - 1) / F::tokens;
    const auto first_of = [=](int64_t group) { return n * group / groups; };  // token; tiles differ by one at most
    const int64_t most = least(k, F::most);
    const bool straight = n <= F::straight;
    int64_t per = panels / (product.params->nth * 4);  // of a job: so many that tokens are read seldom and no thread waits long
    per = per < 1 ? 1 : straight ? per : least(per, 4);
    const int64_t jobs = (panels + per - 1) / per;
    product.begin();
    Panel *panel = straight ? nullptr : panel_buffer.get(per * most);
    Column *columns = F::columns ? column_buffer.get(groups * k) : nullptr;
    Factor *tokens_here = converted ? token_buffer.get(F::tokens * most) : nullptr;
    const Factor *tokens[F::tokens];
    if constexpr (F::columns) {
        for (int64_t g = 0; g < groups; g++) {
            const int64_t start = first_of(g), count = first_of(g + 1) - start;
            for (int64_t b = 0; b < k; b++) {
                for (int t = 0; t < count; t++) tokens[t] = product.token<Factor>(start + t) + b;
                F::column(tokens, count, columns[g * k + b]);
            }
        }
    }
    struct Place { const Block *rows; size_t apart; };
    const auto place = [&](int64_t q, int64_t from, int64_t width) -> Place {
        const Block *rows = A + q * F::rows * lda + from;
        const int64_t count = least(m - q * F::rows, F::rows);
        if (count == F::rows) return {rows, lda * sizeof(Block)};
        Block *rest = rest_buffer.get(F::rows * width);  // the last rows, and zeros
        memset((void *) rest, 0, F::rows * width * sizeof(Block));
        for (int64_t i = 0; i < count; i++) memcpy((void *) (rest + i * width), rows + i * lda, width * sizeof(Block));
        return {rest, width * sizeof(Block)};
    };
    product.meet();
    for (int64_t job = product.params->ith; job < jobs; job = product.next(job)) {
        const int64_t first = job * per, last = least(first + per, panels);
        for (int64_t from = 0; from < k; from += most) {
            const int64_t width = least(k - from, most);
            for (int64_t q = first; q < last && !straight; q++) {
                const Place rows = place(q, from, width);
                F::unpack(rows.rows, rows.apart, width, panel + (q - first) * width);
            }
            for (int64_t g = 0; g < groups; g++) {
                const int64_t start = first_of(g), count = first_of(g + 1) - start;
                for (int t = 0; t < count; t++) {
                    const Token *token = product.token<Token>(start + t) + from;
                    if constexpr (converted) {
                        F::convert(token, width, tokens_here + t * most);
                        tokens[t] = tokens_here + t * most;
                    } else {
                        tokens[t] = token;
                    }
                }
                const Column *c = F::columns ? columns + g * k + from : nullptr;
                for (int64_t q = first; q < last; q++) {
                    Reals out[F::tokens * F::rows / ROWS] = {};
                    if (straight) {
                        if constexpr (F::straight > 0) {
                            const Place rows = place(q, from, width);
                            Tile<F, F::straight, 2>::multiply(count, typename F::FromRows{rows.rows, rows.apart}, width, tokens, c, out);
                        }
                    } else {
                        Tile<F, F::tokens, F::straight ? F::tokens / 2 : 1>::multiply(
                            count, typename F::FromPanel{panel + (q - first) * width}, width, tokens, c, out);
                    }
                    const int64_t row = q * F::rows;
                    for (int t = 0; t < count; t++)
                        put(out + t * (F::rows / ROWS), product.results(start + t) + row, least(m - row, F::rows), from > 0);
                }
            }
        }
    }
    product.meet();
    return true;
}
