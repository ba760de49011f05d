/* Attention of whole rows with its gradient: tiles of 64 queries by 64 keys, and no matrix of scores.

   A sink is a first key without a value: the softmax begins with its logit as the largest and 1 as the total. */
#include <stddef.h>

#include "number.h"
#include "scratch.h"
#include "tile_product.h"
#include "training.h"

enum { TILE = 64 };
#define UNSEEN -1e30f

/* Memory for one row of tokens and one head of keys and values; sizes are filled up to whole tiles. */
struct room {
    float *keys, *values;                   /* [T, C] and [T, U] */
    float *key_columns, *value_columns;     /* [T / 64, C, 64] and [T / 64, U, 64] */
    float *of_keys, *of_values;             /* [T, C] and [T, U] */
    float *queries, *of_queries;            /* [64, C] */
    float *outs;                            /* [64, U]: outputs, or their gradients */
    float *scores, *slopes;                 /* [64, 64] */
    float largest[TILE], totals[TILE], deltas[TILE];
    int32_t firsts[TILE];
};

INLINE int64_t filled(int64_t size, int64_t unit) {
    return (size + unit - 1) / unit * unit;
}

static void cut_room(struct room *room, struct scratch *scratch, const struct lesson *lesson) {
    int64_t tokens = filled(lesson->tokens, TILE);
    int64_t key = filled(lesson->head_dim, TILE_WIDTH), value = filled(lesson->v_head_dim, TILE_WIDTH);
    float **pieces[] = {&room->keys,    &room->values,     &room->key_columns, &room->value_columns,
                        &room->of_keys, &room->of_values,  &room->queries,     &room->of_queries,
                        &room->outs,    &room->scores,     &room->slopes};
    int64_t sizes[] = {tokens * key, tokens * value, tokens * key, tokens * value, tokens * key, tokens * value,
                       TILE * key,   TILE * key,     TILE * value, TILE * TILE,    TILE * TILE};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        *pieces[i] = cut(scratch, sizes[i], sizeof(float));
}

EXPORTED int64_t envfarm_lesson_floats(const struct lesson *lesson) {
    struct scratch scratch = {NULL, 0};
    struct room room;
    cut_room(&room, &scratch, lesson);
    return scratch.floats + LANES;
}

/* Turns the first numbers of a head, back where `sign` is -1: number i pairs with number i + half. */
INLINE void turn_head(const struct lesson *lesson, float *head, int64_t token, float sign) {
    int64_t half = lesson->rotary_dim / 2;
    const float *cosines = lesson->cosines + token * half, *sines = lesson->sines + token * half;
    for (int64_t i = 0; i < half; i++) {
        float first = head[i], second = head[half + i], sine = sign * sines[i];
        head[i] = first * cosines[i] - second * sine;
        head[half + i] = second * cosines[i] + first * sine;
    }
}

/* Reads `size` numbers as float32, times a factor, with zeros up to `width`. */
INLINE void read_head(float *to, int64_t width, const void *from, int64_t place, int64_t size, float factor,
                      const bool halves) {
    for (int64_t i = 0; i < width; i += LANES)
        store(to + i, i < size ? load_numbers(from, place + i, size - i, halves) * vector_of(factor) : vector_of(0));
}

INLINE void write_head(void *to, int64_t place, const float *from, int64_t size, float factor, const bool halves) {
    for (int64_t i = 0; i < size; i += LANES)
        store_numbers(to, place + i, load(from + i) * vector_of(factor), size - i, halves);
}

/* Turns tiles of 64 rows into columns. */
static void turn_tiles(float *columns, const float *rows, int64_t count, int64_t width) {
    for (int64_t tile = 0; tile < count; tile += TILE, columns += TILE * width, rows += TILE * width)
        for (int64_t row = 0; row < TILE; row += LANES)
            for (int64_t start = 0; start < width; start += LANES) {
                vector square[LANES];
                for (int i = 0; i < LANES; i++)
                    square[i] = load(rows + (row + i) * width + start);
                transpose(square);
                for (int i = 0; i < LANES; i++)
                    store(columns + (start + i) * TILE + row, square[i]);
            }
}

struct place {
    const struct lesson *lesson;
    struct room *room;
    int64_t row, group, head, query; /* `query`: the tile's first */
    int64_t key_width, value_width, stride;
};

INLINE float scale_of(const struct lesson *lesson) {
    return 1.0f / __builtin_sqrtf((float)lesson->head_dim);
}

INLINE void read_keys(const struct place *at, const bool halves) {
    const struct lesson *lesson = at->lesson;
    struct room *room = at->room;
    int64_t tokens = filled(lesson->tokens, TILE), key = lesson->head_dim, value = lesson->v_head_dim;
    for (int64_t i = 0; i < tokens; i++) {
        bool is_real = i < lesson->tokens;
        int64_t token = at->row * lesson->tokens + i, begin = token * at->stride;
        int64_t key_place = begin + (lesson->heads + at->group) * key;
        int64_t value_place = begin + (lesson->heads + lesson->kv_heads) * key + at->group * value;
        float *keys = room->keys + i * at->key_width, *values = room->values + i * at->value_width;
        read_head(keys, at->key_width, lesson->projected, key_place, is_real ? key : 0, 1, halves);
        read_head(values, at->value_width, lesson->projected, value_place, is_real ? value : 0, lesson->value_scale,
                  halves);
        if (is_real)
            turn_head(lesson, keys, token, 1);
    }
    turn_tiles(room->key_columns, room->keys, tokens, at->key_width);
}

INLINE void set_product(struct tile_product product) {
    multiply(product, false);
}

INLINE void add_product(struct tile_product product) {
    multiply(product, true);
}

/* Reads a tile's queries, scaled, and returns the first key that one of them sees. */
INLINE int64_t read_queries(const struct place *at, const bool halves) {
    const struct lesson *lesson = at->lesson;
    struct room *room = at->room;
    int64_t low = lesson->tokens;
    for (int64_t i = 0; i < TILE; i++) {
        bool is_real = at->query + i < lesson->tokens;
        int64_t token = at->row * lesson->tokens + at->query + i;
        float *query = room->queries + i * at->key_width;
        read_head(query, at->key_width, lesson->projected, token * at->stride + at->head * lesson->head_dim,
                  is_real ? lesson->head_dim : 0, scale_of(lesson), halves);
        if (is_real)
            turn_head(lesson, query, token, 1);
        room->firsts[i] = is_real ? lesson->firsts[token] : INT32_MAX;
        if (room->firsts[i] < low)
            low = room->firsts[i];
    }
    return low;
}

/* Leaves the scores of a tile, `UNSEEN` where a query does not see a key. */
static void score_tile(const struct place *at, int64_t key) {
    struct room *room = at->room;
    set_product((struct tile_product){room->queries, room->key_columns + key * at->key_width, room->scores,
                                      at->key_width, 1, TILE, TILE, TILE, TILE, at->lesson->head_dim});
    const whole_vector lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int64_t i = 0; i < TILE; i++) {
        if (key + TILE <= at->query && room->firsts[i] <= key)
            continue;
        int64_t first = room->firsts[i] - key, last = at->query + i - key;
        for (int v = 0; v < TILE / LANES; v++) {
            float *scores = room->scores + i * TILE + v * LANES;
            whole_vector number = lanes + (int32_t)(v * LANES);
            whole_vector seen = (number >= (int32_t)first) & (number <= (int32_t)last);
            store(scores, chosen(seen, load(scores), vector_of(UNSEEN)));
        }
    }
}

/* Shares of the keys that are seen, exactly 0 for others. */
INLINE vector share_of(vector score, vector most, vector factor) {
    return chosen(score <= vector_of(UNSEEN / 2), vector_of(0), exponential(score - most) * factor);
}

static void soften(const struct place *at) {
    struct room *room = at->room;
    for (int64_t i = 0; i < TILE; i++) {
        float *scores = room->scores + i * TILE;
        vector high = vector_of(room->largest[i]);
        for (int v = 0; v < TILE / LANES; v++)
            high = __builtin_elementwise_max(high, load(scores + v * LANES));
        float most = largest(high), correction = 1;
        vector total = vector_of(0);
        if (most > room->largest[i]) {
            correction = exponential(vector_of(room->largest[i] - most))[0];
            for (int64_t u = 0; u < at->value_width; u += LANES) {
                float *out = room->outs + i * at->value_width + u;
                store(out, load(out) * vector_of(correction));
            }
        }
        for (int v = 0; v < TILE / LANES; v++) {
            vector share = share_of(load(scores + v * LANES), vector_of(most), vector_of(1));
            store(scores + v * LANES, share);
            total += share;
        }
        room->totals[i] = room->totals[i] * correction + sum(total);
        room->largest[i] = most;
    }
}

INLINE void attend_tile(const struct place *at, const bool halves) {
    const struct lesson *lesson = at->lesson;
    struct room *room = at->room;
    int64_t low = read_queries(at, halves), width = at->value_width;
    memset(room->outs, 0, (size_t)(TILE * width) * sizeof(float));
    for (int64_t i = 0; i < TILE; i++) {
        room->largest[i] = lesson->sinks == NULL ? UNSEEN : lesson->sinks[at->head];
        room->totals[i] = lesson->sinks == NULL ? 0 : 1;
    }
    for (int64_t key = low / TILE * TILE; key <= at->query; key += TILE) {
        score_tile(at, key);
        soften(at);
        add_product((struct tile_product){room->scores, room->values + key * width, room->outs, TILE, 1, width, width,
                                          TILE, width, TILE});
    }
    int64_t kept = (at->row * lesson->heads + at->head) * lesson->tokens + at->query;
    for (int64_t i = 0; i < TILE && at->query + i < lesson->tokens; i++) {
        float share = room->totals[i] == 0 ? 0 : 1 / room->totals[i];
        int64_t token = at->row * lesson->tokens + at->query + i;
        lesson->largest[kept + i] = room->largest[i];
        lesson->shares[kept + i] = share;
        int64_t begin = (token * lesson->heads + at->head) * lesson->v_head_dim;
        write_head(lesson->exact, begin, room->outs + i * width, lesson->v_head_dim, share, false);
        if (lesson->out != NULL)
            write_head(lesson->out, begin, room->outs + i * width, lesson->v_head_dim, share, halves);
    }
}

/* Reads what a tile's outputs are to change by; returns what their sink is to change by. */
INLINE float read_gradients(const struct place *at, const bool halves) {
    const struct lesson *lesson = at->lesson;
    struct room *room = at->room;
    float of_sink = 0;
    int64_t kept = (at->row * lesson->heads + at->head) * lesson->tokens + at->query, width = at->value_width;
    for (int64_t i = 0; i < TILE; i++) {
        bool is_real = at->query + i < lesson->tokens;
        int64_t token = at->row * lesson->tokens + at->query + i;
        int64_t begin = (token * lesson->heads + at->head) * lesson->v_head_dim;
        int64_t size = is_real ? lesson->v_head_dim : 0;
        float *of_out = room->outs + i * width;
        read_head(of_out, width, lesson->of_out, begin, size, 1, halves);
        vector delta = vector_of(0);
        for (int64_t u = 0; u < size; u += LANES)
            delta = fused(load(of_out + u), load_first(lesson->exact + begin + u, size - u), delta);
        room->deltas[i] = sum(delta);
        room->largest[i] = is_real ? lesson->largest[kept + i] : 0;
        room->totals[i] = is_real ? lesson->shares[kept + i] : 0;
        if (lesson->sinks != NULL && is_real) {
            float share = exponential(vector_of(lesson->sinks[at->head] - room->largest[i]))[0] * room->totals[i];
            of_sink -= share * room->deltas[i];
        }
    }
    return of_sink;
}

/* Leaves shares in `scores`, and what scores are to change by in `slopes`. */
static void slope_tile(const struct place *at, int64_t key) {
    struct room *room = at->room;
    set_product((struct tile_product){room->outs, room->value_columns + key * at->value_width, room->slopes,
                                      at->value_width, 1, TILE, TILE, TILE, TILE, at->lesson->v_head_dim});
    for (int64_t i = 0; i < TILE; i++) {
        vector most = vector_of(room->largest[i]), factor = vector_of(room->totals[i]);
        vector delta = vector_of(room->deltas[i]);
        for (int v = 0; v < TILE / LANES; v++) {
            float *score = room->scores + i * TILE + v * LANES, *slope = room->slopes + i * TILE + v * LANES;
            vector share = share_of(load(score), most, factor);
            store(score, share);
            store(slope, share * (load(slope) - delta));
        }
    }
}

INLINE float learn_tile(const struct place *at, const bool halves) {
    const struct lesson *lesson = at->lesson;
    struct room *room = at->room;
    int64_t low = read_queries(at, halves), c = at->key_width, u = at->value_width;
    float of_sink = read_gradients(at, halves);
    memset(room->of_queries, 0, (size_t)(TILE * c) * sizeof(float));
    for (int64_t key = low / TILE * TILE; key <= at->query; key += TILE) {
        score_tile(at, key);
        slope_tile(at, key);
        float *of_values = room->of_values + key * u, *of_keys = room->of_keys + key * c;
        const float *keys = room->keys + key * c;
        add_product((struct tile_product){room->scores, room->outs, of_values, 1, TILE, u, u, TILE, u, TILE});
        add_product((struct tile_product){room->slopes, room->queries, of_keys, 1, TILE, c, c, TILE, c, TILE});
        add_product((struct tile_product){room->slopes, keys, room->of_queries, TILE, 1, c, c, TILE, c, TILE});
    }
    for (int64_t i = 0; i < TILE && at->query + i < lesson->tokens; i++) {
        int64_t token = at->row * lesson->tokens + at->query + i;
        turn_head(lesson, room->of_queries + i * c, token, -1);
        write_head(lesson->of_projected, token * at->stride + at->head * lesson->head_dim, room->of_queries + i * c,
                   lesson->head_dim, scale_of(lesson), halves);
    }
    return of_sink;
}

INLINE void write_key_gradients(const struct place *at, const bool halves) {
    const struct lesson *lesson = at->lesson;
    struct room *room = at->room;
    int64_t key = lesson->head_dim, value = lesson->v_head_dim;
    for (int64_t i = 0; i < lesson->tokens; i++) {
        int64_t token = at->row * lesson->tokens + i, begin = token * at->stride;
        turn_head(lesson, room->of_keys + i * at->key_width, token, -1);
        write_head(lesson->of_projected, begin + (lesson->heads + at->group) * key, room->of_keys + i * at->key_width,
                   key, 1, halves);
        write_head(lesson->of_projected, begin + (lesson->heads + lesson->kv_heads) * key + at->group * value,
                   room->of_values + i * at->value_width, value, lesson->value_scale, halves);
    }
}

INLINE void do_item(struct place *at, const bool halves) {
    const struct lesson *lesson = at->lesson;
    struct room *room = at->room;
    bool learns = lesson->of_out != NULL;
    int64_t tokens = filled(lesson->tokens, TILE), heads = lesson->heads / lesson->kv_heads;
    read_keys(at, halves);
    if (learns) {
        turn_tiles(room->value_columns, room->values, tokens, at->value_width);
        memset(room->of_keys, 0, (size_t)(tokens * at->key_width) * sizeof(float));
        memset(room->of_values, 0, (size_t)(tokens * at->value_width) * sizeof(float));
    }
    for (at->head = at->group * heads; at->head < (at->group + 1) * heads; at->head++) {
        float of_sink = 0;
        for (at->query = 0; at->query < tokens; at->query += TILE)
            if (learns)
                of_sink += learn_tile(at, halves);
            else
                attend_tile(at, halves);
        if (learns && lesson->sinks != NULL)
            lesson->of_sinks[at->row * lesson->heads + at->head] = of_sink;
    }
    if (learns)
        write_key_gradients(at, halves);
}

/* Attends, or finds the gradient where `of_out` is there. An item is a row of tokens and a head of keys and values. */
EXPORTED void envfarm_lesson(const struct lesson *lesson, int64_t first, int64_t last, float *memory) {
    struct scratch scratch = {memory + (-(uintptr_t)memory / sizeof(float)) % LANES, 0};
    struct room room;
    cut_room(&room, &scratch, lesson);
    int64_t key = lesson->head_dim, value = lesson->v_head_dim;
    struct place at = {lesson, &room, 0, 0, 0, 0, filled(key, TILE_WIDTH), filled(value, TILE_WIDTH),
                       (lesson->heads + lesson->kv_heads) * key + lesson->kv_heads * value};
    for (int64_t item = first; item < last; item++) {
        at.row = item / lesson->kv_heads;
        at.group = item % lesson->kv_heads;
        if (lesson->halves)
            do_item(&at, true);
        else
            do_item(&at, false);
    }
}
