// Types of quantised weights, and by what functions they are multiplied.
#pragma once
#include "panels.h"
#include "iq_rows.h"
#include "k_rows.h"
#include "sixteen_rows.h"

// `size`, `columns`: bytes and weights of a block; `tokens`, `token_size`: the type that tokens are brought into, and the
// bytes of its block, of as many numbers; `several`, `one`: products with more tokens, and with one.
struct Format { int type; size_t size; int64_t columns; int tokens; size_t token_size; Multiply several, one; };

static const Format FORMATS[] = {
    {TYPE_Q4_0, sizeof(block_q4_0), 32, TYPE_Q8_0, sizeof(block_q8_0), by_panels<Simple<Q4_0>>, by_rows<Q4_0>},
    {TYPE_Q5_0, sizeof(block_q5_0), 32, TYPE_Q8_0, sizeof(block_q8_0), by_panels<Simple<Q5_0>>, by_rows<Q5_0>},
    {TYPE_Q8_0, sizeof(block_q8_0), 32, TYPE_Q8_0, sizeof(block_q8_0), by_panels<Simple<Q8_0>>, by_rows<Q8_0>},
    {TYPE_IQ4_NL, sizeof(block_iq4_nl), 32, TYPE_Q8_0, sizeof(block_q8_0), by_panels<Simple<IQ4_NL>>, by_rows<IQ4_NL>},
    {TYPE_MXFP4, sizeof(block_mxfp4), 32, TYPE_Q8_0, sizeof(block_q8_0), by_panels<Simple<MXFP4>>, by_rows<MXFP4>},
    {TYPE_Q2_K, sizeof(block_q2_k), 256, TYPE_Q8_K, sizeof(block_q8_k), by_panels<Sixteens<Q2_K>>, by_sixteens_rows<block_q2_k>},
    {TYPE_Q3_K, sizeof(block_q3_k), 256, TYPE_Q8_K, sizeof(block_q8_k), by_panels<Sixteens<Q3_K>>, by_sixteens_rows<block_q3_k>},
    {TYPE_IQ4_XS, sizeof(block_iq4_xs), 256, TYPE_Q8_K, sizeof(block_q8_k), by_panels<Signed>, by_iq4_rows},
    {TYPE_Q4_K, sizeof(block_q4_k), 256, TYPE_Q8_K, sizeof(block_q8_k), by_panels<WithMinima<Q4_K, 8>>, by_k_rows<block_q4_k>},
    {TYPE_Q5_K, sizeof(block_q5_k), 256, TYPE_Q8_K, sizeof(block_q8_k), by_panels<WithMinima<Q5_K, 4>>, by_k_rows<block_q5_k>},
    {TYPE_Q6_K, sizeof(block_q6_k), 256, TYPE_Q8_K, sizeof(block_q8_k), by_panels<Sixteens<Q6_K>>, by_sixteens_rows<block_q6_k>},
};

// The format of weights of that type; null if their products are not done here.
static inline const Format *format_of(int type) {
    for (const Format &format : FORMATS)
        if (format.type == type) return &format;
    return nullptr;
}
