/* What Python calls: a step through all layers, a block of multi-token prediction, the head. */
#include <stddef.h>

#include "attention.h"
#include "feed_forward.h"
#include "forward.h"
#include "product.h"
#include "training.h"
#include "vector.h"

/* Memory of a step; sizes are those of the largest layer. */
struct room {
    float *stream, *normal, *projected, *seen, *joined;
    const float **inputs;
    float **outputs;
};

static int64_t projected_size(const struct attention *attention) {
    return attention->qkv.outputs;
}

/* Cuts what one layer needs beside the streams; the next layer has the same memory. */
static struct room cut_room(struct scratch *scratch, const struct model *model, const struct layer *layer, int64_t tokens) {
    return (struct room){
        .stream = cut(scratch, tokens * model->hidden, sizeof(float)),
        .normal = cut(scratch, tokens * model->hidden, sizeof(float)),
        .inputs = cut(scratch, tokens, sizeof(float *)),
        .outputs = cut(scratch, tokens, sizeof(float *)),
        .joined = cut(scratch, 2 * tokens * model->hidden, sizeof(float)),
        .projected = cut(scratch, tokens * projected_size(&layer->attention), sizeof(float)),
        .seen = cut(scratch, tokens * layer->attention.out.inputs, sizeof(float)),
    };
}

static int64_t floats_of(const struct model *model, const struct layer *layer, int64_t tokens) {
    struct scratch scratch = {NULL, 0};
    cut_room(&scratch, model, layer, tokens);
    cut_attention_room(&scratch, &layer->attention);
    cut_feed_room(&scratch, layer, tokens);
    return scratch.floats;
}

/* The size of each structure, in the order of `model.h` and `training.h`; 0 behind the last: Python's have to be the
   same. */
EXPORTED int64_t envfarm_structure_bytes(int64_t number) {
    static const int64_t sizes[] = {
        sizeof(struct matrix), sizeof(struct attention), sizeof(struct feed_forward),
        sizeof(struct layer),  sizeof(struct block),     sizeof(struct model),
        sizeof(struct memory), sizeof(struct segment),   sizeof(struct step),
        sizeof(struct head),   sizeof(struct norm),      sizeof(struct norm_gradient),
        sizeof(struct gate),   sizeof(struct spread),    sizeof(struct collect),
        sizeof(struct surprise), sizeof(struct lesson),   sizeof(struct team),
    };
    return number < (int64_t)(sizeof sizes / sizeof *sizes) ? sizes[number] : 0;
}

/* How much memory a step over so many tokens needs. */
EXPORTED int64_t envfarm_scratch_floats(const struct model *model, int64_t blocks, int64_t tokens) {
    int64_t most = 0;
    for (int64_t i = 0; i < model->layer_count + blocks; i++) {
        const struct layer *layer =
            i < model->layer_count ? model->layers + i : &model->blocks[i - model->layer_count].layer;
        int64_t floats = floats_of(model, layer, tokens);
        most = floats > most ? floats : most;
    }
    return most;
}

/* Divides by the root of the mean square, and multiplies by a weight. */
static void normalise(const float *from, const float *weight, float *to, int64_t size, float epsilon) {
    vector squares = vector_of(0);
    for (int64_t i = 0; i < size; i += LANES) {
        vector x = load_first(from + i, size - i);
        squares = fused(x, x, squares);
    }
    vector scale = vector_of(1.0f / __builtin_sqrtf(sum(squares) / (float)size + epsilon));
    for (int64_t i = 0; i < size; i += LANES) {
        int64_t left = size - i;
        store_first(to + i, load_first(weight + i, left) * (load_first(from + i, left) * scale), left);
    }
}

static void normalise_all(const struct model *model, const float *from, const float *weight, float *to, int64_t tokens) {
    for (int64_t n = 0; n < tokens; n++)
        normalise(from + n * model->hidden, weight, to + n * model->hidden, model->hidden, model->epsilon);
}

static void point(const struct room *room, const float *inputs, int64_t input_size, float *outputs, int64_t output_size,
                  int64_t tokens) {
    for (int64_t n = 0; n < tokens; n++) {
        room->inputs[n] = inputs + n * input_size;
        room->outputs[n] = outputs + n * output_size;
    }
}

static void run_layer(const struct model *model, const struct layer *layer, const struct memory *memory,
                      const struct step *step, float *stream, uint8_t *chosen) {
    int64_t tokens = step->tokens, hidden = model->hidden;
    struct scratch scratch = {step->scratch, 0};
    struct room room = cut_room(&scratch, model, layer, tokens);
    struct attention_room attention_room = cut_attention_room(&scratch, &layer->attention);
    struct feed_room feed_room = cut_feed_room(&scratch, layer, tokens);
    const struct attention *attention = &layer->attention;

    normalise_all(model, stream, layer->attention_norm, room.normal, tokens);
    point(&room, room.normal, hidden, room.projected, projected_size(attention), tokens);
    product(&attention->qkv, room.inputs, room.outputs, tokens, false);
    attend(attention, memory, step, room.projected, projected_size(attention), room.seen, &attention_room);
    point(&room, room.seen, attention->out.inputs, stream, hidden, tokens);
    product(&attention->out, room.inputs, room.outputs, tokens, true);

    normalise_all(model, stream, layer->feed_norm, room.normal, tokens);
    feed_forward(layer, room.normal, stream, tokens, chosen, model->layer_count * step->most_chosen, &feed_room);
}

/* Runs a step's tokens through the main model; leaves hidden states behind the final norm, and the experts. */
EXPORTED void envfarm_forward(const struct model *model, const struct step *step) {
    struct scratch scratch = {step->scratch, 0};
    float *stream = cut_room(&scratch, model, model->layers, step->tokens).stream;
    for (int64_t n = 0; n < step->tokens; n++)
        memcpy(stream + n * model->hidden, model->embedding + step->ids[n] * model->hidden,
               (size_t)model->hidden * sizeof(float));
    for (int64_t i = 0; i < model->layer_count; i++)
        run_layer(model, model->layers + i, step->memories + i, step, stream,
                  step->chosen ? step->chosen + i * step->most_chosen : NULL);
    normalise_all(model, stream, model->final_norm, step->hidden, step->tokens);
}

/* Runs a block over `step.given` and the embeddings of `step.ids`; leaves hidden states for the head. */
EXPORTED void envfarm_predict_further(const struct model *model, int64_t number, const struct step *step) {
    const struct block *block = model->blocks + number;
    int64_t hidden = model->hidden;
    struct scratch scratch = {step->scratch, 0};
    struct room room = cut_room(&scratch, model, &block->layer, step->tokens);
    for (int64_t n = 0; n < step->tokens; n++) {
        float *joined = room.joined + 2 * n * hidden;
        normalise(model->embedding + step->ids[n] * hidden, block->embedding_norm, joined, hidden, model->epsilon);
        normalise(step->given[n], block->hidden_norm, joined + hidden, hidden, model->epsilon);
    }
    point(&room, room.joined, 2 * hidden, room.stream, hidden, step->tokens);
    product(&block->joined, room.inputs, room.outputs, step->tokens, false);
    run_layer(model, &block->layer, step->memories, step, room.stream, NULL);
    normalise_all(model, room.stream, block->final_norm, step->hidden, step->tokens);
}
