// Attention of tokens to the cells of a KV cache, tile by tile with a running softmax (Dao et al., "FlashAttention", 2022),
// and of few tokens to many cells by several threads, whose results are joined (Dao et al., "Flash-Decoding", 2023).
//
// The heads that share keys and values are computed together, for several tokens at once: each cell is read and made
// floats once for all of them. Cells that no token of a group may see are skipped, tile by tile. Both products are those
// of floats.h: keys are its weights row by row, values column by column.
#pragma once
#include <cmath>
#include <initializer_list>

#include "floats.h"
#include "panels.h"

typedef Floats<Single>::Panel Panel16;  // 16 cells or 16 values, as floats

constexpr int64_t CELLS = 64;  // of a tile
constexpr int64_t MOST_ROWS = 64;  // tokens times heads of a group
constexpr uint16_t NEVER = 0xfc00;  // in a mask: minus infinity

struct Attention {
    const ggml_tensor *q, *k, *v, *mask, *sinks, *dst;
    int64_t tokens, cells, streams;
    int64_t heads, bundles, bundles_of_kv;  // heads of a bundle, which share a KV head; bundles of all heads, and of a KV head's
    int64_t k_width, v_width;
    float scale, softcap;

    int64_t tokens_together() const { return heads < MOST_ROWS ? MOST_ROWS / heads : 1; }
    int64_t groups() const { return (tokens + tokens_together() - 1) / tokens_together(); }
    const float *query(int64_t stream, int64_t head, int64_t token) const {
        return (const float *) ((const char *) q->data + token * q->nb[1] + head * q->nb[2] + stream * q->nb[3]);
    }
    const char *cells_of(const ggml_tensor *t, int64_t stream, int64_t head) const {
        return (const char *) t->data + head * t->nb[2] + stream / (q->ne[3] / t->ne[3]) * t->nb[3];
    }
    const uint16_t *seen(int64_t stream, int64_t token) const {
        return (const uint16_t *) ((const char *) mask->data + token * mask->nb[1] + stream % mask->ne[3] * mask->nb[3]);
    }
    float *result(int64_t stream, int64_t head, int64_t token) const {
        return (float *) ((char *) dst->data + ((stream * tokens + token) * q->ne[2] + head) * dst->nb[1]);
    }
};

// Some tokens of a stream, with a bundle of heads: row t * heads + h is head h of token t.
struct Group { int64_t stream, bundle, token, count; };

// e to the x, for x <= 0; 0 for what is too small. Cephes' method: a power of two times a polynomial.
static inline __m256 exponential(__m256 x) {
    const __m256 small = _mm256_cmp_ps(x, _mm256_set1_ps(-87.0f), _CMP_LT_OQ);
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 y = _mm256_set1_ps(1.9875691500e-4f);
    for (float c : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(c));
    y = _mm256_add_ps(_mm256_fmadd_ps(y, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1));
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_andnot_ps(small, _mm256_mul_ps(y, _mm256_castsi256_ps(power)));
}

static inline float largest(__m256 x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

// Rows of keys or values of a type of numbers into panels.
template <class Number> static void pack_keys(const char *rows, size_t stride, int64_t width, Panel16 *to) {
    Floats<Number>::unpack((const typename Number::number *) rows, stride, width, (typename Floats<Number>::Panel *) to);
}
template <class Number> static void pack_values(const char *rows, size_t stride, int64_t n, int64_t width, Panel16 *to) {
    for (int64_t c = 0; c < n; c++) {
        const auto *row = (const typename Number::number *) (rows + c * stride);
        for (int64_t j = 0; j < 2 * (width / 16); j++) _mm256_store_ps((float *) to[j / 2 * CELLS + c].w + j % 2 * 8, Number::load(row + 8 * j));
    }
}

// What a thread computes a group in. A row of scores, and of what is left of them, has CELLS numbers.
struct Workplace {
    Buffer<float> queries, scores, sums, masks, floats;
    Buffer<Panel16> keys, values;
    float most[MOST_ROWS], total[MOST_ROWS];
    const float *rows[MOST_ROWS];
    int64_t active[MOST_ROWS];  // their numbers
};

// Keys of a tile; cells behind its end are zeros.
static void keys_of_tile(const Attention &a, const char *rows, int64_t n, Workplace &w, Panel16 *to) {
    const int64_t width = a.k_width;
    const size_t stride = a.k->nb[1];
    const int type = a.k->type;
    for (int64_t c = 0; c < n; c += 16, to += width) {
        const int64_t count = least(16, n - c);
        const char *from = rows + c * stride;
        const bool whole = count == 16;
        if (whole && type == TYPE_F16) pack_keys<Half>(from, stride, width, to);
        else if (whole && type == TYPE_BF16) pack_keys<Bfloat>(from, stride, width, to);
        else if (whole && type == TYPE_F32) pack_keys<Single>(from, stride, width, to);
        else {
            float *own = w.floats.get(16 * width);
            memset(own + count * width, 0, (16 - count) * width * sizeof(float));
            for (int64_t i = 0; i < count; i++) {
                if (type == TYPE_F32) memcpy(own + i * width, from + i * stride, width * sizeof(float));
                else ggml.base_traits(type)->to_float(from + i * stride, own + i * width, width);
            }
            pack_keys<Single>((const char *) own, width * sizeof(float), width, to);
        }
    }
}

static void values_of_tile(const Attention &a, const char *rows, int64_t n, Workplace &w, Panel16 *to) {
    const int64_t width = a.v_width;
    switch (a.v->type) {
        case TYPE_F16: return pack_values<Half>(rows, a.v->nb[1], n, width, to);
        case TYPE_BF16: return pack_values<Bfloat>(rows, a.v->nb[1], n, width, to);
        case TYPE_F32: return pack_values<Single>(rows, a.v->nb[1], n, width, to);
    }
    float *own = w.floats.get(n * width);
    for (int64_t i = 0; i < n; i++) ggml.base_traits(a.v->type)->to_float(rows + i * a.v->nb[1], own + i * width, width);
    pack_values<Single>((const char *) own, width * sizeof(float), n, width, to);
}

// Whether a mask lets any of n cells be seen.
static inline bool sees_any(const uint16_t *mask, int64_t n) {
    int64_t c = 0;
    for (; c + 16 <= n; c += 16) {
        const __m256i never = _mm256_cmpeq_epi16(_mm256_loadu_si256((const __m256i *) (mask + c)), _mm256_set1_epi16((short) NEVER));
        if (_mm256_movemask_epi8(never) != -1) return true;
    }
    for (; c < n; c++)
        if (mask[c] != NEVER) return true;
    return false;
}

// The rows of the tokens that may see a cell of a tile, into `active`; their masks as floats. Returns how many rows.
static int64_t find_active(const Attention &a, const Group &g, int64_t first, int64_t n, Workplace &w) {
    int64_t count = 0;
    float *masks = w.masks.get(MOST_ROWS * CELLS);
    for (int64_t t = 0; t < g.count; t++) {
        if (a.mask) {
            const uint16_t *from = a.seen(g.stream, g.token + t) + first;
            if (!sees_any(from, n)) continue;
            float *to = masks + t * CELLS;
            int64_t c = 0;
            for (; c + 8 <= n; c += 8) _mm256_storeu_ps(to + c, Half::load(from + c));
            for (; c < n; c++) to[c] = _cvtsh_ss(from[c]);
            for (; c < CELLS; c++) to[c] = 0;
        }
        for (int64_t h = 0; h < a.heads; h++) w.active[count++] = t * a.heads + h;
    }
    return count;
}

// The running softmax: scores of a row become parts of the sum, what was summed before is scaled.
static void soften(const Attention &a, float *scores, const float *mask, int64_t n, int64_t row, Workplace &w) {
    if (a.softcap != 0)
        for (int64_t c = 0; c < n; c++) scores[c] = a.softcap * tanhf(scores[c]);
    for (int64_t c = n; c < CELLS; c++) scores[c] = -INFINITY;
    __m256 most = _mm256_set1_ps(-INFINITY);
    for (int64_t c = 0; c < CELLS; c += 8) {
        __m256 x = _mm256_loadu_ps(scores + c);
        if (mask) {  // what another text left in a cell that is not seen may be no number at all
            const __m256 m = _mm256_loadu_ps(mask + c), never = _mm256_set1_ps(-INFINITY);
            x = _mm256_blendv_ps(_mm256_add_ps(x, m), never, _mm256_cmp_ps(m, never, _CMP_EQ_OQ));
        }
        _mm256_storeu_ps(scores + c, x);
        most = _mm256_max_ps(most, x);
    }
    const float peak = largest(most);
    if (peak > w.most[row]) {
        const float less = expf(w.most[row] - peak);
        float *sums = w.sums.memory + row * a.v_width;
        for (int64_t j = 0; j < a.v_width; j += 8) _mm256_storeu_ps(sums + j, _mm256_mul_ps(_mm256_loadu_ps(sums + j), _mm256_set1_ps(less)));
        w.total[row] *= less;
        w.most[row] = peak;
    }
    const __m256 base = _mm256_set1_ps(w.most[row]);
    __m256 sum = _mm256_setzero_ps();
    for (int64_t c = 0; c < CELLS; c += 8) {
        __m256 x = exponential(_mm256_sub_ps(_mm256_loadu_ps(scores + c), base));
        _mm256_storeu_ps(scores + c, x);
        sum = _mm256_add_ps(sum, x);
    }
    alignas(32) float parts[8];
    _mm256_store_ps(parts, sum);
    for (float part : parts) w.total[row] += part;
}

// Panels times rows: `put` gets the 16 numbers of a row and a panel.
template <class Put> static inline void times(const Panel16 *panels, int64_t n_panels, int64_t apart, int64_t k, int64_t count, Workplace &w, Put put) {
    typedef Floats<Single> F;
    for (int64_t p = 0; p < n_panels; p++) {
        for (int64_t r = 0; r < count; r += F::tokens) {
            Reals out[F::parts * F::tokens];
            const int together = (int) least(F::tokens, count - r);
            Tile<F, F::tokens, 1>::multiply(together, panels + p * apart, k, w.rows + r, nullptr, out);
            for (int t = 0; t < together; t++) put(r + t, p, (const float *) (out + F::parts * t));
        }
    }
}

// Attend to cells `from` to `to`: sums, totals and maxima of the group's rows are in the workplace then.
static void attend(const Attention &a, const Group &g, int64_t from, int64_t to, Workplace &w) {
    const int64_t n_rows = g.count * a.heads;
    float *queries = w.queries.get(n_rows * a.k_width), *scores = w.scores.get(MOST_ROWS * CELLS), *sums = w.sums.get(n_rows * a.v_width);
    Panel16 *keys = w.keys.get(CELLS / 16 * a.k_width), *values = w.values.get(a.v_width / 16 * CELLS);
    for (int64_t r = 0; r < n_rows; r++) {
        const float *q = a.query(g.stream, g.bundle * a.heads + r % a.heads, g.token + r / a.heads);
        for (int64_t i = 0; i < a.k_width; i++) queries[r * a.k_width + i] = q[i] * a.scale;
        w.most[r] = -INFINITY;
        w.total[r] = 0;
    }
    memset(sums, 0, n_rows * a.v_width * sizeof(float));
    const int64_t kv_head = g.bundle / a.bundles_of_kv;
    const char *k = a.cells_of(a.k, g.stream, kv_head), *v = a.cells_of(a.v, g.stream, kv_head);
    for (int64_t first = from; first < to; first += CELLS) {
        const int64_t n = least(CELLS, to - first), count = find_active(a, g, first, n, w);
        if (!count) continue;
        keys_of_tile(a, k + first * a.k->nb[1], n, w, keys);
        for (int64_t i = 0; i < count; i++) w.rows[i] = queries + w.active[i] * a.k_width;
        times(keys, (n + 15) / 16, a.k_width, a.k_width, count, w, [=](int64_t row, int64_t panel, const float *x) {
            memcpy(scores + row * CELLS + 16 * panel, x, 16 * sizeof(float));
        });
        for (int64_t i = 0; i < count; i++) {
            const float *mask = a.mask ? w.masks.memory + w.active[i] / a.heads * CELLS : nullptr;
            soften(a, scores + i * CELLS, mask, n, w.active[i], w);
            w.rows[i] = scores + i * CELLS;
        }
        values_of_tile(a, v + first * a.v->nb[1], n, w, values);
        times(values, a.v_width / 16, CELLS, n, count, w, [&](int64_t row, int64_t panel, const float *x) {
            float *sum = sums + w.active[row] * a.v_width + 16 * panel;
            for (int i = 0; i < 16; i++) sum[i] += x[i];
        });
    }
}

// The sum of a row, to its place. `head`: of all.
static void finish(const Attention &a, int64_t stream, int64_t head, int64_t token, float most, float total, const float *sums) {
    float share = 1;
    if (a.sinks) {  // one cell more, that has no value
        const float sink = ((const float *) a.sinks->data)[head];
        if (sink > most) {
            share = expf(most - sink);
            total = total * share + 1;
        } else {
            total += expf(sink - most);
        }
    }
    float *to = a.result(stream, head, token);
    const float factor = total == 0 ? 0 : share / total;
    for (int64_t j = 0; j < a.v_width; j++) to[j] = sums[j] * factor;
}

// What several threads found of a row: its maximum, its total and its sums.
static void join(const Attention &a, const float *parts, int64_t n_parts, int64_t row, Workplace &w) {
    const int64_t size = 2 + a.v_width, heads = a.q->ne[2];
    float most = -INFINITY, total = 0, *sums = w.sums.get(a.v_width);
    for (int64_t i = 0; i < n_parts; i++) most = fmaxf(most, parts[i * size]);
    memset(sums, 0, a.v_width * sizeof(float));
    for (int64_t i = 0; i < n_parts; i++, parts += size) {
        if (parts[0] == -INFINITY) continue;
        const float share = expf(parts[0] - most);
        total += parts[1] * share;
        for (int64_t j = 0; j < a.v_width; j++) sums[j] += parts[2 + j] * share;
    }
    finish(a, row / heads / a.tokens, row % heads, row / heads % a.tokens, most, total, sums);
}

// Fills `a`; false for operations that are not done here.
static bool describe(ggml_tensor *dst, Attention &a) {
    a = {dst->src[0], dst->src[1], dst->src[2], dst->src[3], dst->src[4], dst};
    float bias;
    memcpy(&a.scale, dst->op_params, 4);
    memcpy(&bias, dst->op_params + 1, 4);
    memcpy(&a.softcap, dst->op_params + 2, 4);
    if (a.softcap != 0) a.scale /= a.softcap;
    a.tokens = a.q->ne[1], a.cells = a.k->ne[1], a.streams = a.q->ne[3];
    a.k_width = a.k->ne[0], a.v_width = a.v->ne[0];
    const int64_t kv_heads = a.k->ne[2], sharing = a.q->ne[2] / kv_heads;
    for (a.bundles_of_kv = 1; sharing / a.bundles_of_kv > MOST_ROWS || sharing % a.bundles_of_kv; a.bundles_of_kv++) {}
    a.heads = sharing / a.bundles_of_kv;
    a.bundles = kv_heads * a.bundles_of_kv;
    for (const ggml_tensor *t : {a.k, a.v}) {
        const ggml_base_traits *traits = ggml.base_traits(t->type);
        if (t->nb[0] != traits->type_size || (t->type != TYPE_F32 && !traits->to_float)) return false;
    }
    return a.q->type == TYPE_F32 && a.q->nb[0] == 4 && dst->type == TYPE_F32 && bias == 0 && a.k_width % 8 == 0 && a.v_width % 16 == 0 &&
           a.v->ne[2] == kv_heads && a.q->ne[2] % kv_heads == 0 && (!a.mask || (a.mask->type == TYPE_F16 && a.mask->ne[2] == 1));
}

static bool attended(const ggml_compute_params *params, ggml_tensor *dst) {
    static thread_local Workplace w;
    Attention a;
    if (params->use_ref || !describe(dst, a)) return false;
    const int64_t together = a.tokens_together(), groups = a.groups(), units = a.streams * a.bundles * groups;
    const int64_t rows = a.streams * a.tokens * a.q->ne[2], size = 2 + a.v_width, jobs = 4 * params->nth;
    int64_t parts = 1;  // of the cells; more only where there would be too few jobs, and as the work buffer allows
    if (units < jobs) parts = least(least((jobs + units - 1) / units, a.cells / CELLS), params->wsize / (rows * size * sizeof(float)));
    if (parts < 1) parts = 1;
    const int64_t per = ((a.cells + parts - 1) / parts + CELLS - 1) / CELLS * CELLS;
    float *found = (float *) params->wdata;
    if (params->ith == 0) ggml.set_chunk(params->threadpool, params->nth);
    ggml.barrier(params->threadpool);
    for (int64_t job = params->ith; job < units * parts; job = ggml.next_chunk(params->threadpool, 1)) {
        const int64_t unit = job / parts, part = job % parts, token = (groups - 1 - unit % groups) * together;  // last tokens see most
        const Group g = {unit / groups / a.bundles, unit / groups % a.bundles, token, least(together, a.tokens - token)};
        attend(a, g, part * per, least((part + 1) * per, a.cells), w);
        for (int64_t r = 0; r < g.count * a.heads; r++) {
            const int64_t head = g.bundle * a.heads + r % a.heads, of = g.token + r / a.heads;
            const float *sums = w.sums.memory + r * a.v_width;
            if (parts == 1) {
                finish(a, g.stream, head, of, w.most[r], w.total[r], sums);
                continue;
            }
            float *to = found + (((g.stream * a.tokens + of) * a.q->ne[2] + head) * parts + part) * size;
            to[0] = w.most[r];
            to[1] = w.total[r];
            memcpy(to + 2, sums, a.v_width * sizeof(float));
        }
    }
    if (parts > 1) {
        ggml.barrier(params->threadpool);
        for (int64_t row = params->ith; row < rows; row += params->nth) join(a, found + row * parts * size, parts, row, w);
    }
    return true;
}
