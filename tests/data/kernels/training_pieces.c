/* Runs every piece of a training step on drawn numbers, in float32 and in bfloat16, and writes what comes out as
   float32: built for two kinds of machines, both have to write the same numbers. */
#include <string.h>

#include "alone.h"
#include "number.h"
#include "training.h"

enum {
    ROWS = 70,
    SIZE = 40,
    INNER = 20,
    CHOSEN = 2,
    EXPERTS = 5,
    MULTIPLE = 8,
    PLACES = ROWS * CHOSEN + EXPERTS * MULTIPLE,
    VOCABULARY = 53,
    TOKENS = 35,
    HEADS = 6,
    KV_HEADS = 2,
    KEY = 24,
    VALUE = 20,
    ROTARY = 8,
    STRIDE = (HEADS + KV_HEADS) * KEY + KV_HEADS * VALUE
};

void envfarm_norm(const struct norm *norm, int64_t first, int64_t last);
void envfarm_norm_gradient(const struct norm_gradient *norm, int64_t first, int64_t last);
void envfarm_gate(const struct gate *gate, int64_t first, int64_t last);
void envfarm_arrange(const int64_t *experts_of, int64_t pairs, int64_t experts, int64_t multiple, int32_t *places,
                     int32_t *sources, int64_t *ends);
void envfarm_spread(const struct spread *spread, int64_t first, int64_t last);
void envfarm_collect(const struct collect *collect, int64_t first, int64_t last);
void envfarm_surprise(const struct surprise *surprise, int64_t first, int64_t last);
int64_t envfarm_lesson_floats(const struct lesson *lesson);
void envfarm_lesson(const struct lesson *lesson, int64_t first, int64_t last, float *memory);

static uint32_t state = 1;

static float draw(void) {
    state = state * 1664525u + 1013904223u;
    return ((float)(state >> 8) / (1 << 24) - 0.5f) * 4;
}

static float *room(int64_t count) {
    return take((size_t)count * sizeof(float));
}

static void *numbers(int64_t count, int halves) {
    float *all = room(count + LANES);
    for (int64_t i = 0; i < count; i++)
        store_numbers(all, i, vector_of(draw()), 1, halves);
    return all;
}

static void tell_numbers(const void *from, int64_t count, int halves) {
    for (int64_t i = 0; i < count; i++) {
        float number = load_numbers(from, i, 1, halves)[0];
        tell(&number, sizeof number);
    }
}

static void tell_rows(int halves) {
    int64_t all = ROWS * SIZE;
    struct norm norm = {numbers(all, 0), numbers(all, halves), numbers(SIZE, 0), room(all), room(all), room(all),
                        room(ROWS), ROWS, SIZE, 1e-5f, halves};
    envfarm_norm(&norm, 0, ROWS);
    struct norm_gradient slope = {norm.sum, norm.weight, norm.factors, numbers(all, 0), numbers(all, halves),
                                  numbers(all, 0), room(all), room(all), room(2 * SIZE), ROWS, SIZE, halves};
    envfarm_norm_gradient(&slope, 0, 2);
    struct gate gate = {norm.normal, room(ROWS * INNER), slope.of_added, room(all), INNER, halves};
    envfarm_gate(&gate, 0, ROWS);
    tell_numbers(norm.normal, all, halves);
    tell_numbers(norm.wide, all, 0);
    tell_numbers(slope.of_stream, all, 0);
    tell_numbers(slope.of_weight, 2 * SIZE, 0);
    tell_numbers(gate.inner, ROWS * INNER, halves);
    tell_numbers(gate.of_gate_up, all, halves);
}

static void tell_experts(int halves) {
    int64_t experts_of[ROWS * CHOSEN], ends[EXPERTS];
    int32_t places[ROWS * CHOSEN], sources[PLACES];
    for (int i = 0; i < ROWS * CHOSEN; i++)
        experts_of[i] = (i * i + 3 * i) % (EXPERTS - 1);
    envfarm_arrange(experts_of, ROWS * CHOSEN, EXPERTS, MULTIPLE, places, sources, ends);
    int64_t placed = ends[EXPERTS - 1];
    struct spread spread = {numbers(ROWS * SIZE, halves), sources, numbers(ROWS * CHOSEN, 0), room(placed * SIZE),
                            numbers(placed * SIZE, halves), room(ROWS * CHOSEN), CHOSEN, SIZE, halves};
    envfarm_spread(&spread, 0, placed);
    struct collect collect = {spread.placed, places, spread.factors, room(ROWS * SIZE), CHOSEN, SIZE, halves};
    envfarm_collect(&collect, 0, ROWS);
    tell_numbers(spread.placed, placed * SIZE, halves);
    tell_numbers(spread.products, ROWS * CHOSEN, 0);
    tell_numbers(collect.rows, ROWS * SIZE, halves);
}

static void tell_head(int halves) {
    int64_t targets[ROWS];
    for (int i = 0; i < ROWS; i++)
        targets[i] = i % 9 ? i * 7 % VOCABULARY : -100;
    struct surprise surprise = {numbers(ROWS * VOCABULARY, halves), targets, room(ROWS), room(ROWS), VOCABULARY, 0.3f,
                                halves, 1};
    envfarm_surprise(&surprise, 0, ROWS);
    tell_numbers(surprise.logits, ROWS * VOCABULARY, halves);
    tell_numbers(surprise.distances, ROWS, 0);
    tell_numbers(surprise.totals, ROWS, 0);
}

static void tell_attention(int halves) {
    int32_t firsts[2 * TOKENS];
    for (int i = 0; i < 2 * TOKENS; i++)
        firsts[i] = i % TOKENS > 20 ? i % TOKENS - 9 : 0;
    int64_t all = 2 * TOKENS * HEADS;
    struct lesson lesson = {.projected = numbers(2 * TOKENS * STRIDE, halves), .firsts = firsts,
                            .cosines = numbers(TOKENS * ROTARY, 0), .sines = numbers(TOKENS * ROTARY, 0),
                            .sinks = numbers(HEADS, 0), .out = room(all * VALUE), .exact = room(all * VALUE),
                            .largest = room(all), .shares = room(all), .tokens = TOKENS, .heads = HEADS,
                            .kv_heads = KV_HEADS, .head_dim = KEY, .v_head_dim = VALUE, .rotary_dim = ROTARY,
                            .value_scale = 0.7f, .halves = halves};
    float *memory = room(envfarm_lesson_floats(&lesson));
    envfarm_lesson(&lesson, 0, 2 * KV_HEADS, memory);
    tell_numbers(lesson.out, all * VALUE, halves);
    lesson.of_out = numbers(all * VALUE, halves);
    lesson.of_projected = room(2 * TOKENS * STRIDE);
    lesson.of_sinks = room(2 * HEADS);
    envfarm_lesson(&lesson, 0, 2 * KV_HEADS, memory);
    tell_numbers(lesson.of_projected, 2 * TOKENS * STRIDE, halves);
    tell_numbers(lesson.of_sinks, 2 * HEADS, 0);
}

int main(void) {
    for (int halves = 0; halves < 2; halves++) {
        tell_rows(halves);
        tell_experts(halves);
        tell_head(halves);
        tell_attention(halves);
    }
    return 0;
}
