// The products of all formats, for whichever library asks.
#include "formats.h"

#include "iq_rows.h"
#include "k_rows.h"
#include "panels.h"
#include "sixteen_rows.h"

template <class F> static constexpr Format of_32(int type) {
    return {type, sizeof(typename F::block), 32, TYPE_Q8_0, sizeof(block_q8_0), SimpleRows<F>::multiply, by_panels<Simple<F>>};
}
template <class Panels, class Rows> static constexpr Format of_256(int type) {
    return {type, sizeof(typename Panels::block), 256, TYPE_Q8_K, sizeof(block_q8_k), Rows::multiply, by_panels<Panels>};
}

static const Format FORMATS[] = {
    of_32<Q4_0>(TYPE_Q4_0),
    of_32<Q5_0>(TYPE_Q5_0),
    of_32<Q8_0>(TYPE_Q8_0),
    of_32<IQ4_NL>(TYPE_IQ4_NL),
    of_32<MXFP4>(TYPE_MXFP4),
    of_256<Sixteens<Q2_K>, SixteensRows<block_q2_k>>(TYPE_Q2_K),
    of_256<Sixteens<Q3_K>, SixteensRows<block_q3_k>>(TYPE_Q3_K),
    of_256<Signed, IQ4Rows>(TYPE_IQ4_XS),
    of_256<WithMinima<Q4_K, 8>, KRows<block_q4_k>>(TYPE_Q4_K),
    of_256<WithMinima<Q5_K, 4>, KRows<block_q5_k>>(TYPE_Q5_K),
    of_256<Sixteens<Q6_K>, SixteensRows<block_q6_k>>(TYPE_Q6_K),
};

const Format *format_of(int type) {
    for (const Format &format : FORMATS)
        if (format.type == type) return &format;
    return nullptr;
}
