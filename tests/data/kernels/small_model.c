/* Runs a small model with drawn weights through the kernels and writes what comes out as float32: built for two kinds
   of machines, both have to write the same numbers up to rounding. */
#include <string.h>

#include "alone.h"
#include "forward.h"

enum {
    HIDDEN = 40,
    VOCABULARY = 97,
    LAYERS = 3,
    HEADS = 6,
    KV_HEADS = 2,
    KEY = 24,
    VALUE = 20,
    ROTARY = 8,
    INNER = 36,
    EXPERTS = 5,
    CHOSEN = 2,
    REACH = 9,
    SLOTS = REACH + 1 + 6,
    ROWS = 2,
    BLOCKS = 2,
    POSITIONS = 256,
    UNITS = 8
};

int64_t envfarm_chain_floats(const struct model *model, int64_t blocks, int64_t segments, int64_t tokens);
void envfarm_guess_all(const struct model *model, int64_t blocks, const struct step *step, int32_t *ids);

static uint32_t state = 1;

static float draw(void) {
    state = state * 1664525u + 1013904223u;
    return ((float)(state >> 8) / (1 << 24) - 0.5f) * 0.5f;
}

static float *numbers(int64_t count, float around) {
    float *all = take((size_t)count * sizeof(float));
    for (int64_t i = 0; i < count; i++)
        all[i] = around + draw();
    return all;
}

static struct matrix weight(int64_t inputs, int64_t outputs, int halves) {
    int64_t padded = (outputs + 15) / 16 * 16;
    struct matrix matrix = {.inputs = inputs, .outputs = outputs};
    float *wide = numbers(inputs * padded, 0);
    matrix.panels = wide;
    if (halves) {
        uint16_t *narrow = take((size_t)(inputs * padded) * sizeof(uint16_t));
        for (int64_t i = 0; i < inputs * padded; i++) {
            uint32_t bits;
            memcpy(&bits, wide + i, 4);
            narrow[i] = (uint16_t)(bits >> 16);
        }
        matrix.panels = narrow;
        matrix.factors = numbers((inputs + 127) / 128 * padded, 1);
    }
    return matrix;
}

static struct layer make_layer(int is_window, int experts) {
    struct feed_forward *feeds = take((size_t)(experts ? experts : 1) * sizeof *feeds);
    for (int i = 0; i < (experts ? experts : 1); i++)
        feeds[i] = (struct feed_forward){weight(HIDDEN, 2 * INNER, i % 2), weight(INNER, HIDDEN, i % 2)};
    struct attention attention = {.qkv = weight(HIDDEN, (HEADS + KV_HEADS) * KEY + KV_HEADS * VALUE, is_window),
                                  .out = weight(HEADS * VALUE, HIDDEN, !is_window),
                                  .sinks = is_window ? numbers(HEADS, 0) : NULL,
                                  .heads = HEADS, .kv_heads = KV_HEADS, .head_dim = KEY, .v_head_dim = VALUE,
                                  .rotary_dim = ROTARY, .reach = is_window ? REACH : -1, .value_scale = 0.7f};
    struct layer layer = {.attention_norm = numbers(HIDDEN, 1), .feed_norm = numbers(HIDDEN, 1),
                          .attention = attention, .feeds = feeds, .experts = experts,
                          .experts_chosen = experts ? CHOSEN : 0, .routed_scaling = 1, .normalised = 1};
    if (experts) {
        layer.router = weight(HIDDEN, experts, 0);
        layer.correction = numbers(experts, 0);
    }
    return layer;
}

static struct memory make_memory(int is_window) {
    int64_t places = is_window ? SLOTS + 1 : BLOCK_TOKENS, units = is_window ? ROWS : UNITS;
    struct memory memory = {.slots = is_window ? SLOTS : 0,
                            .unit_keys = KV_HEADS * places * KEY, .group_keys = places * KEY,
                            .unit_values = KV_HEADS * places * VALUE, .group_values = places * VALUE,
                            .cosines = numbers(POSITIONS * ROTARY / 2, 0.5f), .sines = numbers(POSITIONS * ROTARY / 2, 0)};
    memory.keys = take((size_t)(units * memory.unit_keys) * sizeof(float));
    memory.values = take((size_t)(units * memory.unit_values) * sizeof(float));
    if (is_window)
        memory.positions = take((size_t)(units * places) * sizeof(int64_t));
    return memory;
}

int main(void) {
    struct layer layers[LAYERS] = {make_layer(0, 0), make_layer(1, EXPERTS), make_layer(0, EXPERTS)};
    struct block blocks[BLOCKS];
    struct memory memories[LAYERS] = {make_memory(0), make_memory(1), make_memory(0)};
    struct memory block_memories[BLOCKS];
    for (int k = 0; k < BLOCKS; k++) {
        blocks[k] = (struct block){numbers(HIDDEN, 1), numbers(HIDDEN, 1), numbers(HIDDEN, 1),
                                   weight(2 * HIDDEN, HIDDEN, k), make_layer(1, 0)};
        block_memories[k] = make_memory(1);
    }
    struct model model = {HIDDEN, VOCABULARY, LAYERS, numbers(VOCABULARY * HIDDEN, 0), numbers(HIDDEN, 1), layers, blocks,
                          weight(HIDDEN, VOCABULARY, 1), 1e-5f};
    const int32_t tables[] = {0, 1, 2, 3, 4, 5, 6, 7};
    int32_t ids[200];
    for (int i = 0; i < 200; i++)
        ids[i] = (i * 37 + 11) % VOCABULARY;
    const int counts[][2] = {{90, 3}, {1, 1}, {4, 20}, {1, 70}, {1, 1}};
    int start[2] = {0, 0};
    for (int turn = 0; turn < 5; turn++) {
        int tokens = counts[turn][0] + counts[turn][1];
        struct segment segments[2] = {{0, start[0], counts[turn][0], 0}, {1, start[1], counts[turn][1], 4}};
        float *hidden = numbers(tokens * HIDDEN, 0);
        uint8_t *chosen = take((size_t)tokens * LAYERS * CHOSEN);
        struct step step = {.tokens = tokens, .segment_count = 2, .segments = segments, .tables = tables, .ids = ids,
                            .memories = memories, .hidden = hidden, .chosen = chosen, .most_chosen = CHOSEN,
                            .scratch = numbers(envfarm_scratch_floats(&model, BLOCKS, tokens), 0)};
        envfarm_forward(&model, &step);
        for (int s = 0, last = -1; s < 2; s++) {
            last += counts[turn][s];
            start[s] += counts[turn][s];
            float logits[VOCABULARY], total;
            const float *row = hidden + last * HIDDEN;
            float *to = logits;
            int32_t likeliest;
            uint8_t finite;
            struct head head = {1, &row, &to, &likeliest, &total, &finite};
            envfarm_head(&model, &head);
            const float said[] = {(float)likeliest, finite, total};
            tell(said, sizeof said);
            tell(logits, sizeof logits);
            for (int i = 0; i < LAYERS * CHOSEN; i++) {
                float expert = chosen[last * LAYERS * CHOSEN + i];
                tell(&expert, sizeof expert);
            }
        }
        if (counts[turn][0] < 90)
            continue;
        int known = 20; /* rows of the last block: what the first goes over, and one more */
        int32_t tail[64];
        const float *given[64];
        for (int i = 0; i < known; i++) {
            tail[i] = ids[90 - known + 1 + i];
            given[i] = hidden + (90 - known + i) * HIDDEN;
        }
        struct segment newest = {0, 90 - (known - BLOCKS + 1), known - BLOCKS + 1, 0};
        struct step guess = {.tokens = known, .segment_count = 1, .segments = &newest, .memories = block_memories,
                             .given = given,
                             .scratch = numbers(envfarm_chain_floats(&model, BLOCKS, 1, known), 0)};
        envfarm_guess_all(&model, BLOCKS, &guess, tail);
        const float guesses[] = {(float)tail[known], (float)tail[known + 1]};
        tell(guesses, sizeof guesses);
    }
    return 0;
}
