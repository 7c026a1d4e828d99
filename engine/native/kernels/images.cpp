// stable-diffusion.cpp's matrix products with many tokens, for x86 processors with AVX2, and for those with AVX-512 and
// VNNI.
//
// Its ggml-cpu is built without llamafile and without tiles: every product is done row by row. The function that does one
// is led here, by the slot through which it is called (slots.h); what is not done here goes on to it. Convolutions are
// products too: rows of pixels times the kernels, both halves. What makes these rows is led here as well.
#include <atomic>

#include "floats.h"
#include "formats.h"
#include "panels.h"
#include "slots.h"
#include "unfold.h"

// So many tokens pay for bringing rows side by side.
constexpr int64_t FLOAT_TOKENS = 24;

static std::atomic<long long> products, unfoldings;

// Products of floats, by the types of weights and tokens; null if they are not done here.
static Multiply floats(int weights, int tokens) {
    if (tokens == TYPE_F16) return weights == TYPE_F16 ? by_panels<Floats<Half, Half>> : nullptr;
    if (tokens == TYPE_F32) switch (weights) {
            case TYPE_F32: return by_panels<Floats<Single>>;
            case TYPE_F16: return by_panels<Floats<Half>>;
            case TYPE_BF16: return by_panels<Floats<Bfloat>>;
        }
    return nullptr;
}

// The tokens in the type that weights of a format are multiplied with, in the library's work buffer, as it would do it
// itself. Null where that is too small.
struct Encoded { const char *data; size_t row; };

static Encoded encoded(const ggml_compute_params *params, const ggml_tensor *tokens, const Format &format) {
    const int64_t k = tokens->ne[0], n = tokens->ne[1] * tokens->ne[2] * tokens->ne[3];
    const size_t row = k / format.columns * format.token_size;
    if (params->wsize < n * row) return {nullptr, 0};
    const from_float encode = ggml.traits(format.tokens)->encode;
    for (int64_t i = params->ith; i < n; i += params->nth) {
        const int64_t i1 = i % tokens->ne[1], i2 = i / tokens->ne[1] % tokens->ne[2], i3 = i / tokens->ne[1] / tokens->ne[2];
        const char *from = (const char *) tokens->data + i1 * tokens->nb[1] + i2 * tokens->nb[2] + i3 * tokens->nb[3];
        encode((const float *) from, (char *) params->wdata + i * row, k);
    }
    ggml.barrier(params->threadpool);
    return {(const char *) params->wdata, row};
}

static bool multiplied(const ggml_compute_params *params, ggml_tensor *dst) {
    const ggml_tensor *weights = dst->src[0], *tokens = dst->src[1];
    const int64_t k = weights->ne[0], n = tokens->ne[1];
    const Format *format = tokens->type == TYPE_F32 ? format_of(weights->type) : nullptr;  // null: of floats
    const Multiply of_floats = format ? nullptr : floats(weights->type, tokens->type);
    if (!(format || of_floats) || dst->type != TYPE_F32 || n < (format ? 2 : FLOAT_TOKENS) || k % (format ? format->columns : 8)) return false;
    // rows in one piece, and as far apart as whole blocks
    const size_t size = format ? format->size : weights->type == TYPE_F32 ? 4 : 2, number = tokens->type == TYPE_F16 ? 2 : 4;
    if (weights->nb[0] != size || weights->nb[1] % size || tokens->nb[0] != number || tokens->nb[1] % number || dst->nb[0] != 4 || dst->nb[1] % 4)
        return false;
    Product p = {&ggml, params, weights->ne[1], n, k / (format ? format->columns : 1), nullptr, (int64_t) (weights->nb[1] / size), nullptr,
                 (int64_t) (tokens->nb[1] / number), nullptr, (int64_t) (dst->nb[1] / 4), Share::COUNT, nullptr};
    Encoded there = {nullptr, 0};
    if (format) {
        there = encoded(params, tokens, *format);
        if (!there.data) return false;
        p.ldb = there.row / format->token_size;
    }
    const int64_t share2 = tokens->ne[2] / weights->ne[2], share3 = tokens->ne[3] / weights->ne[3];  // planes of tokens for one of weights
    for (int64_t i3 = 0; i3 < tokens->ne[3]; i3++) {
        for (int64_t i2 = 0; i2 < tokens->ne[2]; i2++) {
            p.A = (const char *) weights->data + i2 / share2 * weights->nb[2] + i3 / share3 * weights->nb[3];
            p.B = format ? there.data + (i3 * tokens->ne[2] + i2) * n * there.row
                         : (const char *) tokens->data + i2 * tokens->nb[2] + i3 * tokens->nb[3];
            p.C = (float *) ((char *) dst->data + i2 * dst->nb[2] + i3 * dst->nb[3]);
            format ? format->multiply(p) : of_floats(p);
        }
    }
    return true;
}

static void mul_mat(const ggml_compute_params *params, ggml_tensor *dst) {
    if (!multiplied(params, dst)) return ggml.mul_mat(params, dst);
    if (params->ith == 0) products.fetch_add(1, std::memory_order_relaxed);
}

static void im2col(const ggml_compute_params *params, ggml_tensor *dst) {
    if (!unfolded(params, dst)) return ggml.im2col(params, dst);
    if (params->ith == 0) unfoldings.fetch_add(1, std::memory_order_relaxed);
}

extern "C" {

// Do the operations of the library that these functions belong to. Returns whether it will ask here.
bool llamabox_images_attach(void *mul_mat_there, void *im2col_there, void *barrier, void *set_chunk, void *next_chunk, void *traits) {
    if (!suited()) return false;
    ggml.mul_mat = (decltype(ggml.mul_mat)) mul_mat_there;
    ggml.im2col = (decltype(ggml.im2col)) im2col_there;
    ggml.barrier = (decltype(ggml.barrier)) barrier;
    ggml.set_chunk = (decltype(ggml.set_chunk)) set_chunk;
    ggml.next_chunk = (decltype(ggml.next_chunk)) next_chunk;
    ggml.traits = (decltype(ggml.traits)) traits;
    return lead_all(mul_mat_there, {
        {"ggml_compute_forward_mul_mat", (void *) mul_mat, mul_mat_there},
        {"ggml_compute_forward_im2col", (void *) im2col, im2col_there},
    });
}

// How many unfoldings, and products, of images were done here, by all threads together.
long long llamabox_images_unfoldings() { return unfoldings.load(std::memory_order_relaxed); }
long long llamabox_images_products() { return products.load(std::memory_order_relaxed); }
}
