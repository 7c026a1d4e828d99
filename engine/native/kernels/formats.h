// Types of quantised weights, and by what functions they are multiplied.
#pragma once
#include "host.h"

// `size`, `columns`: bytes and weights of a block; `tokens`, `token_size`: the type that tokens are brought into, and the
// bytes of its block, of as many numbers; `rows`, `panels`: products with one token, and with more.
struct Format {
    int type;
    size_t size;
    int64_t columns;
    int tokens;
    size_t token_size;
    Multiply rows, panels;

    bool multiply(const Product &p) const { return (p.n > 1 ? panels : rows)(p); }
};

// The format of weights of that type; null if their products are not done here.
__attribute__((visibility("hidden"))) const Format *format_of(int type);
