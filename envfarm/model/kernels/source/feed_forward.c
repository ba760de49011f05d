#include "feed_forward.h"

#include "product.h"
#include "vector.h"

#define NO_ZERO 1e-20f

struct feed_room cut_feed_room(struct scratch *scratch, const struct layer *layer, int64_t tokens) {
    int64_t rows = tokens * (layer->experts_chosen > 0 ? layer->experts_chosen : 1);
    return (struct feed_room){
        .scores = cut(scratch, tokens * layer->experts, sizeof(float)),
        .experts = cut(scratch, tokens * layer->experts_chosen, sizeof(int32_t)),
        .weights = cut(scratch, tokens * layer->experts_chosen, sizeof(float)),
        .gates = cut(scratch, rows * layer->feeds->gate_up.outputs, sizeof(float)),
        .products = cut(scratch, rows * layer->feeds->down.outputs, sizeof(float)),
        .inputs = cut(scratch, rows, sizeof(float *)),
        .outputs = cut(scratch, rows, sizeof(float *)),
        .rows = cut(scratch, rows, sizeof(float *)),
    };
}

/* Leaves silu(gate) * up in place of the gate. */
static void gate(float *row, int64_t inner) {
    for (int64_t i = 0; i < inner; i += LANES) {
        vector x = load_first(row + i, inner - i), up = load_first(row + inner + i, inner - i);
        store_first(row + i, x * sigmoid(x) * up, inner - i);
    }
}

/* Runs a feed-forward over the first `count` rows that `inputs` points to; they are lost. */
static void feed(const struct feed_forward *feed, const struct feed_room *room, int64_t count, bool adds) {
    const float **inputs = room->inputs;
    float **rows = room->rows;
    int64_t width = feed->gate_up.outputs;
    for (int64_t i = 0; i < count; i++)
        rows[i] = room->gates + i * width;
    product(&feed->gate_up, inputs, rows, count, false);
    for (int64_t i = 0; i < count; i++) {
        gate(rows[i], width / 2);
        inputs[i] = rows[i];
    }
    product(&feed->down, inputs, room->outputs, count, adds);
}

/* Chooses the highest scores with their corrections, the lower number first among equals; weighs by bare scores. */
static void route(const struct layer *layer, float *scores, int32_t *experts, float *weights) {
    int64_t count = layer->experts;
    for (int64_t e = 0; e < count; e += LANES)
        store_first(scores + e, sigmoid(load_first(scores + e, count - e)), count - e);
    float total = 0;
    for (int64_t k = 0; k < layer->experts_chosen; k++) {
        int64_t best = -1;
        for (int64_t e = 0; e < count; e++) {
            bool taken = false;
            for (int64_t before = 0; before < k; before++)
                taken |= experts[before] == e;
            if (!taken && (best < 0 || scores[e] + layer->correction[e] > scores[best] + layer->correction[best]))
                best = e;
        }
        experts[k] = (int32_t)best;
        weights[k] = scores[best];
        total += scores[best];
    }
    for (int64_t k = 0; k < layer->experts_chosen; k++) {
        if (layer->normalised)
            weights[k] /= total + NO_ZERO;
        weights[k] *= layer->routed_scaling;
    }
}

static void choose_experts(const struct layer *layer, const float *normal, int64_t tokens, const struct feed_room *room) {
    int64_t hidden = layer->router.inputs;
    for (int64_t n = 0; n < tokens; n++) {
        room->inputs[n] = normal + n * hidden;
        room->outputs[n] = room->scores + n * layer->experts;
    }
    product(&layer->router, room->inputs, room->outputs, tokens, false);
    for (int64_t n = 0; n < tokens; n++)
        route(layer, room->scores + n * layer->experts, room->experts + n * layer->experts_chosen,
              room->weights + n * layer->experts_chosen);
}

/* Runs each expert over the tokens that chose it; pair n * K + k has its output in `products`. */
static void run_experts(const struct layer *layer, const float *normal, int64_t tokens, const struct feed_room *room) {
    int64_t hidden = layer->router.inputs, pairs = tokens * layer->experts_chosen;
    for (int64_t expert = 0; expert < layer->experts; expert++) {
        int64_t count = 0;
        for (int64_t pair = 0; pair < pairs; pair++)
            if (room->experts[pair] == expert) {
                room->inputs[count] = normal + pair / layer->experts_chosen * hidden;
                room->outputs[count] = room->products + pair * hidden;
                count++;
            }
        if (count > 0)
            feed(layer->feeds + expert, room, count, false);
    }
}

static void add_experts(const struct layer *layer, float *stream, int64_t tokens, const struct feed_room *room) {
    int64_t hidden = layer->router.inputs, most = layer->experts_chosen;
    for (int64_t n = 0; n < tokens; n++)
        for (int64_t d = 0; d < hidden; d += LANES) {
            vector added = vector_of(0);
            for (int64_t k = 0; k < most; k++)
                added = fused(load_first(room->products + (n * most + k) * hidden + d, hidden - d),
                              vector_of(room->weights[n * most + k]), added);
            float *to = stream + n * hidden + d;
            store_first(to, load_first(to, hidden - d) + added, hidden - d);
        }
}

void feed_forward(const struct layer *layer, const float *normal, float *stream, int64_t tokens, uint8_t *chosen,
                  int64_t chosen_stride, const struct feed_room *room) {
    if (layer->experts == 0) {
        int64_t hidden = layer->feeds->down.outputs;
        for (int64_t n = 0; n < tokens; n++) {
            room->inputs[n] = normal + n * hidden;
            room->outputs[n] = stream + n * hidden;
        }
        feed(layer->feeds, room, tokens, true);
        return;
    }
    choose_experts(layer, normal, tokens, room);
    run_experts(layer, normal, tokens, room);
    add_experts(layer, stream, tokens, room);
    for (int64_t n = 0; chosen != NULL && n < tokens; n++)
        for (int64_t k = 0; k < layer->experts_chosen; k++)
            chosen[n * chosen_stride + k] = (uint8_t)room->experts[n * layer->experts_chosen + k];
}
