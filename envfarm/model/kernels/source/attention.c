/* A softmax in one pass over blocks of 64 positions. Blocks begin at multiples of 64 whatever a query sees of them, so
   that a token's sums have one order, however its request was cut into steps. */
#include "attention.h"

#include "vector.h"

enum { MOST_QUERIES = 48, VECTORS_OF_BLOCK = BLOCK_TOKENS / LANES, QUERIES_AT_ONCE = 4, VALUE_VECTORS_AT_ONCE = 2 };
#define UNSEEN -1e30f

struct tile {
    const struct attention *attention;
    const struct memory *memory;
    const struct step *step;
    const struct segment *segment;
    const struct attention_room *room;
    const float *projected; /* of the segment's first token */
    int64_t stride;
    int64_t head;           /* key-value head */
    int64_t token, tokens;  /* in the segment */
    int64_t queries;
    int64_t low, high; /* positions that one of its queries sees */
    int64_t first_row, last_row; /* the same, in the block at hand */
};

static int64_t padded(int64_t size) {
    return (size + LANES - 1) / LANES * LANES;
}

static int64_t tokens_of_tile(const struct attention *attention) {
    int64_t tokens = MOST_QUERIES / (attention->heads / attention->kv_heads);
    return tokens < 1 ? 1 : tokens > LANES ? LANES : tokens;
}

struct attention_room cut_attention_room(struct scratch *scratch, const struct attention *attention) {
    int64_t queries = tokens_of_tile(attention) * (attention->heads / attention->kv_heads);
    int64_t width = padded(attention->v_head_dim);
    int64_t widest = width > attention->head_dim ? width : padded(attention->head_dim);
    struct attention_room room = {
        .columns = cut(scratch, attention->head_dim * BLOCK_TOKENS, sizeof(float)),
        .values = cut(scratch, width * BLOCK_TOKENS, sizeof(float)),
        .zeros = cut(scratch, widest, sizeof(float)),
        .shares = cut(scratch, queries * BLOCK_TOKENS, sizeof(float)),
        .sums = cut(scratch, queries * width, sizeof(float)),
        .largest = cut(scratch, queries, sizeof(float)),
        .totals = cut(scratch, queries, sizeof(float)),
        .corrections = cut(scratch, queries, sizeof(float)),
    };
    if (scratch->next != NULL)
        memset(room.zeros, 0, (size_t)widest * sizeof(float));
    return room;
}

static int64_t query_position(const struct tile *tile, int64_t query) {
    int64_t group = tile->attention->heads / tile->attention->kv_heads;
    return tile->segment->start + tile->token + query / group;
}

static const float *query_of(const struct tile *tile, int64_t query) {
    int64_t group = tile->attention->heads / tile->attention->kv_heads;
    int64_t head = tile->head * group + query % group;
    return tile->projected + (tile->token + query / group) * tile->stride + head * tile->attention->head_dim;
}

/* Where a segment's token lies in memory: which unit, and which place in it. */
static void find_place(const struct tile *tile, int64_t position, int64_t *unit, int64_t *place) {
    const struct memory *memory = tile->memory;
    if (memory->slots > 0) {
        *unit = tile->segment->row;
        *place = position % memory->slots;
    } else {
        *unit = tile->step->tables[tile->segment->blocks + position / BLOCK_TOKENS];
        *place = position % BLOCK_TOKENS;
    }
}

/* Asks for a row early: a request's memory is in no cache when its turn comes. */
static void ask_for(const float *row, int64_t size) {
    for (int64_t i = 0; i < size; i += LANES)
        __builtin_prefetch(row + i);
}

/* Points to the keys and values of a block's positions: memory, and the step's own tokens. */
static void find_rows(const struct tile *tile, int64_t begin, const float **keys, const float **values) {
    const struct attention *attention = tile->attention;
    const struct memory *memory = tile->memory;
    int64_t key_size = attention->head_dim, value_size = attention->v_head_dim;
    int64_t low = tile->low > begin ? tile->low : begin;
    int64_t end = tile->high < begin + BLOCK_TOKENS - 1 ? tile->high + 1 : begin + BLOCK_TOKENS;
    int64_t own = tile->segment->start < low ? low : tile->segment->start < end ? tile->segment->start : end;
    for (int64_t i = 0; i < BLOCK_TOKENS; i++)
        keys[i] = values[i] = tile->room->zeros;
    int64_t unit = 0, place = 0;
    if (own > low)
        find_place(tile, low, &unit, &place);
    const float *first_key = memory->keys + unit * memory->unit_keys + tile->head * memory->group_keys;
    const float *first_value = memory->values + unit * memory->unit_values + tile->head * memory->group_values;
    for (int64_t position = low; position < own; position++) {
        keys[position - begin] = first_key + place * key_size;
        values[position - begin] = first_value + place * value_size;
        ask_for(keys[position - begin], key_size);
        ask_for(values[position - begin], value_size);
        place = place + 1 == memory->slots ? 0 : place + 1;
    }
    for (int64_t position = own; position < end; position++) {
        const float *row = tile->projected + (position - tile->segment->start) * tile->stride;
        keys[position - begin] = row + (attention->heads + tile->head) * key_size;
        values[position - begin] = row + (attention->heads + attention->kv_heads) * key_size + tile->head * value_size;
    }
}

static void turn_keys(float *columns, const float *const *keys, int64_t size) {
    int64_t whole = size / LANES * LANES;
    for (int64_t row = 0; row < BLOCK_TOKENS; row += LANES)
        for (int64_t start = 0; start < whole; start += LANES) {
            vector square[LANES];
            for (int i = 0; i < LANES; i++)
                square[i] = load(keys[row + i] + start);
            transpose(square);
            for (int i = 0; i < LANES; i++)
                store(columns + (start + i) * BLOCK_TOKENS + row, square[i]);
        }
    for (int64_t number = whole; number < size; number++)
        for (int64_t row = 0; row < BLOCK_TOKENS; row++)
            columns[number * BLOCK_TOKENS + row] = keys[row][number];
}

/* Values are read in whole vectors: rows that end inside one are copied, so that nothing behind memory is touched. */
static void fill_values(const struct attention_room *room, const float **values, int64_t size) {
    int64_t width = padded(size);
    if (width == size)
        return;
    for (int64_t i = 0; i < BLOCK_TOKENS; i++) {
        float *row = room->values + i * width;
        memcpy(row, values[i], (size_t)size * sizeof(float));
        memset(row + size, 0, (size_t)(width - size) * sizeof(float));
        values[i] = row;
    }
}

/* Scores one query against a block; leaves its shares, and what to multiply its earlier sums by. */
static void score(const struct tile *tile, int64_t query, int64_t begin) {
    const struct attention_room *room = tile->room;
    const struct attention *attention = tile->attention;
    int64_t position = query_position(tile, query);
    int64_t first = attention->reach < 0 || position < attention->reach ? 0 : position - attention->reach;
    float *shares = room->shares + query * BLOCK_TOKENS;
    if (first >= begin + BLOCK_TOKENS || position < begin) {
        memset(shares, 0, BLOCK_TOKENS * sizeof(float));
        room->corrections[query] = 1;
        return;
    }
    const float *numbers = query_of(tile, query);
    vector scores[VECTORS_OF_BLOCK];
    whole_vector seen[VECTORS_OF_BLOCK];
    const whole_vector lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int v = 0; v < VECTORS_OF_BLOCK; v++)
        scores[v] = vector_of(0);
    for (int64_t c = 0; c < attention->head_dim; c++) {
        vector number = vector_of(numbers[c]);
        for (int v = 0; v < VECTORS_OF_BLOCK; v++)
            scores[v] = fused(load(room->columns + c * BLOCK_TOKENS + v * LANES), number, scores[v]);
    }
    vector scale = vector_of(1.0f / __builtin_sqrtf((float)attention->head_dim));
    vector high = vector_of(room->largest[query]);
    for (int v = 0; v < VECTORS_OF_BLOCK; v++) {
        whole_vector at = lanes + (int32_t)(v * LANES);
        seen[v] = (at >= (int32_t)(first - begin)) & (at <= (int32_t)(position - begin));
        scores[v] = chosen(seen[v], scores[v] * scale, vector_of(UNSEEN));
        high = __builtin_elementwise_max(high, scores[v]);
    }
    float most = largest(high);
    float correction = exponential(vector_of(room->largest[query] - most))[0];
    vector total = vector_of(0);
    for (int v = 0; v < VECTORS_OF_BLOCK; v++) {
        vector share = chosen(seen[v], exponential(scores[v] - vector_of(most)), vector_of(0));
        store(shares + v * LANES, share);
        total += share;
    }
    room->corrections[query] = correction;
    room->totals[query] = room->totals[query] * correction + sum(total);
    room->largest[query] = most;
}

/* Adds a block's values, weighed, to the sums of some queries: `vectors` of each value at once. */
INLINE void weigh(const struct tile *tile, const float *const *values, int64_t query, int64_t u, const int queries,
                  const int vectors) {
    const struct attention_room *room = tile->room;
    int64_t width = padded(tile->attention->v_head_dim);
    vector sums[QUERIES_AT_ONCE][VALUE_VECTORS_AT_ONCE];
#pragma clang loop unroll(full)
    for (int q = 0; q < queries; q++)
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++)
            sums[q][v] = load(room->sums + (query + q) * width + u + v * LANES) *
                         vector_of(room->corrections[query + q]);
    for (int64_t i = tile->first_row; i <= tile->last_row; i++) {
        vector value[VALUE_VECTORS_AT_ONCE];
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++)
            value[v] = load(values[i] + u + v * LANES);
#pragma clang loop unroll(full)
        for (int q = 0; q < queries; q++) {
            vector share = vector_of(room->shares[(query + q) * BLOCK_TOKENS + i]);
#pragma clang loop unroll(full)
            for (int v = 0; v < vectors; v++)
                sums[q][v] = fused(value[v], share, sums[q][v]);
        }
    }
#pragma clang loop unroll(full)
    for (int q = 0; q < queries; q++)
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++)
            store(room->sums + (query + q) * width + u + v * LANES, sums[q][v]);
}

INLINE void weigh_all(const struct tile *tile, const float *const *values, int64_t query, const int queries) {
    int64_t width = padded(tile->attention->v_head_dim), u = 0;
    for (; u + VALUE_VECTORS_AT_ONCE * LANES <= width; u += VALUE_VECTORS_AT_ONCE * LANES)
        weigh(tile, values, query, u, queries, VALUE_VECTORS_AT_ONCE);
    for (; u < width; u += LANES)
        weigh(tile, values, query, u, queries, 1);
}

static void add_values(const struct tile *tile, const float *const *values) {
    int64_t query = 0;
    for (; query + QUERIES_AT_ONCE <= tile->queries; query += QUERIES_AT_ONCE)
        weigh_all(tile, values, query, QUERIES_AT_ONCE);
    for (; query + 2 <= tile->queries; query += 2)
        weigh_all(tile, values, query, 2);
    for (; query < tile->queries; query++)
        weigh_all(tile, values, query, 1);
}

static void attend_tile(struct tile *tile, float *out) {
    const struct attention *attention = tile->attention;
    const struct attention_room *room = tile->room;
    int64_t group = attention->heads / attention->kv_heads, width = padded(attention->v_head_dim);
    for (int64_t query = 0; query < tile->queries; query++) {
        const float *sinks = attention->sinks;
        room->largest[query] = sinks ? sinks[tile->head * group + query % group] : UNSEEN;
        room->totals[query] = sinks ? 1 : 0; /* the sink takes part, and has no value */
        memset(room->sums + query * width, 0, (size_t)width * sizeof(float));
    }
    for (int64_t begin = tile->low / BLOCK_TOKENS * BLOCK_TOKENS; begin <= tile->high; begin += BLOCK_TOKENS) {
        const float *keys[BLOCK_TOKENS], *values[BLOCK_TOKENS];
        tile->first_row = tile->low > begin ? tile->low - begin : 0;
        tile->last_row = tile->high < begin + BLOCK_TOKENS ? tile->high - begin : BLOCK_TOKENS - 1;
        find_rows(tile, begin, keys, values);
        turn_keys(room->columns, keys, attention->head_dim);
        fill_values(room, values, attention->v_head_dim);
        for (int64_t query = 0; query < tile->queries; query++)
            score(tile, query, begin);
        add_values(tile, values);
    }
    for (int64_t query = 0; query < tile->queries; query++) {
        int64_t head = tile->head * group + query % group;
        float *to = out + ((tile->token + query / group) * attention->heads + head) * attention->v_head_dim;
        for (int64_t u = 0; u < attention->v_head_dim; u++)
            to[u] = room->sums[query * width + u] / room->totals[query];
    }
}

/* Turns the first numbers of a head by its position: number i pairs with number i + half. */
static void turn(float *head, const float *cosines, const float *sines, int64_t half) {
    for (int64_t i = 0; i < half; i++) {
        float first = head[i], second = head[half + i];
        head[i] = first * cosines[i] - second * sines[i];
        head[half + i] = second * cosines[i] + first * sines[i];
    }
}

static void prepare(const struct attention *attention, const struct memory *memory, const struct segment *segment,
                    float *projected, int64_t stride) {
    int64_t half = attention->rotary_dim / 2, turned = attention->heads + attention->kv_heads;
    for (int64_t token = 0; token < segment->count; token++) {
        float *row = projected + token * stride;
        int64_t position = segment->start + token;
        for (int64_t head = 0; head < turned; head++)
            turn(row + head * attention->head_dim, memory->cosines + position * half, memory->sines + position * half,
                 half);
        float *values = row + turned * attention->head_dim;
        for (int64_t u = 0; u < attention->kv_heads * attention->v_head_dim; u++)
            values[u] *= attention->value_scale;
    }
}

/* Keeps the newest keys and values of a segment, as many as there is room for. */
static void keep(const struct tile *tile) {
    const struct attention *attention = tile->attention;
    const struct memory *memory = tile->memory;
    int64_t count = tile->segment->count, key_size = attention->head_dim, value_size = attention->v_head_dim;
    int64_t token = memory->slots > 0 && count > memory->slots ? count - memory->slots : 0;
    for (; token < count; token++) {
        int64_t unit, place, position = tile->segment->start + token;
        find_place(tile, position, &unit, &place);
        const float *keys = tile->projected + token * tile->stride + attention->heads * key_size;
        const float *values = keys + attention->kv_heads * key_size;
        for (int64_t head = 0; head < attention->kv_heads; head++) {
            float *key = memory->keys + unit * memory->unit_keys + head * memory->group_keys + place * key_size;
            float *value = memory->values + unit * memory->unit_values + head * memory->group_values + place * value_size;
            memcpy(key, keys + head * key_size, (size_t)key_size * sizeof(float));
            memcpy(value, values + head * value_size, (size_t)value_size * sizeof(float));
        }
        if (memory->positions != NULL)
            memory->positions[unit * (memory->slots + 1) + place] = position;
    }
}

void attend(const struct attention *attention, const struct memory *memory, const struct step *step, float *projected,
            int64_t stride, float *out, const struct attention_room *room) {
    int64_t group = attention->heads / attention->kv_heads, most = tokens_of_tile(attention);
    for (int64_t s = 0; s < step->segment_count; s++) {
        const struct segment *segment = step->segments + s;
        prepare(attention, memory, segment, projected, stride);
        struct tile tile = {attention, memory, step, segment, room, projected, stride, 0, 0, 0, 0, 0, 0, 0, 0};
        for (tile.token = 0; tile.token < segment->count; tile.token += most) {
            int64_t left = segment->count - tile.token;
            tile.tokens = left < most ? left : most;
            tile.queries = tile.tokens * group;
            int64_t first = segment->start + tile.token;
            tile.low = attention->reach < 0 || first < attention->reach ? 0 : first - attention->reach;
            tile.high = first + tile.tokens - 1;
            for (tile.head = 0; tile.head < attention->kv_heads; tile.head++)
                attend_tile(&tile, out);
        }
        keep(&tile);
        projected += segment->count * stride;
        out += segment->count * attention->heads * attention->v_head_dim;
    }
}
