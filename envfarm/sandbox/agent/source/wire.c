#include "wire.h"

#include <string.h>

enum { AT_SIZE = 0, AT_KIND = 4, AT_FLAGS = 5, AT_STATUS = 6, AT_REQUEST = 8, AT_FIELDS_SIZE = 12, AT_COUNTER = 16 };

uint64_t read_number(const uint8_t *at, int size) {
    uint64_t value = 0;
    for (int i = 0; i < size; i++)
        value = value << 8 | at[i];
    return value;
}

void write_number(uint8_t *at, uint64_t value, int size) {
    for (int i = size; i > 0; i--, value >>= 8)
        at[i - 1] = (uint8_t)value;
}

bool span_number(struct span value, uint64_t most, uint64_t *number) {
    if (value.size != 8)
        return false;
    *number = read_number(value.at, 8);
    return *number <= most;
}

enum parsed frame_read(struct span input, size_t limit, struct frame *frame, size_t *size) {
    const uint8_t *at = input.at;
    if (input.size < HEADER_SIZE)
        return PARSED_PARTLY;
    *frame = (struct frame){.kind = at[AT_KIND], .flags = at[AT_FLAGS]};
    frame->status = (uint16_t)read_number(at + AT_STATUS, 2);
    frame->request = (uint32_t)read_number(at + AT_REQUEST, 4);
    frame->counter = read_number(at + AT_COUNTER, 8);
    size_t whole = read_number(at + AT_SIZE, 4), fields = read_number(at + AT_FIELDS_SIZE, 4);
    size_t tag = frame->flags & FLAG_TAGGED ? TAG_SIZE : 0;
    if (whole > limit)
        return PARSED_TOO_LARGE;
    if ((frame->flags & ~FLAG_TAGGED) != 0 || whole < HEADER_SIZE + tag || fields > whole - HEADER_SIZE - tag)
        return PARSED_MALFORMED;
    if (input.size < whole)
        return PARSED_PARTLY;
    frame->fields = (struct span){at + HEADER_SIZE, fields};
    frame->covered = (struct span){at, HEADER_SIZE + fields};
    frame->bulk = (struct span){at + HEADER_SIZE + fields, whole - HEADER_SIZE - tag - fields};
    frame->tag = (struct span){at + whole - tag, tag};
    *size = whole;
    return PARSED_FRAME;
}

bool field_next(struct span *fields, struct field *field, bool *malformed) {
    if (fields->size == 0)
        return false;
    if (fields->size < FIELD_HEADER_SIZE) {
        *malformed = true;
        return false;
    }
    size_t size = read_number(fields->at + 1, 4);
    if (size > fields->size - FIELD_HEADER_SIZE) {
        *malformed = true;
        return false;
    }
    field->tag = fields->at[0];
    field->value = (struct span){fields->at + FIELD_HEADER_SIZE, size};
    fields->at += FIELD_HEADER_SIZE + size;
    fields->size -= FIELD_HEADER_SIZE + size;
    return true;
}

static uint8_t *place(const struct writer *writer, size_t offset) {
    return writer->out->at + writer->out->taken + offset;
}

static size_t end_of(const struct writer *writer) {
    return writer->out->size - writer->out->taken;
}

void frame_begin(struct writer *writer, struct bytes *out, uint8_t kind, uint32_t request) {
    uint8_t header[HEADER_SIZE] = {0};
    *writer = (struct writer){.out = out};
    writer->start = end_of(writer);
    header[AT_KIND] = kind;
    write_number(header + AT_REQUEST, request, 4);
    writer->failed = !bytes_add(out, header, sizeof header);
}

uint8_t *field_space(struct writer *writer, uint8_t tag, size_t size) {
    uint8_t header[FIELD_HEADER_SIZE] = {tag};
    write_number(header + 1, size, 4);
    if (writer->failed || !bytes_reserve(writer->out, sizeof header + size)) {
        writer->failed = true;
        return NULL;
    }
    bytes_add(writer->out, header, sizeof header);
    uint8_t *space = place(writer, end_of(writer));
    writer->out->size += size;
    return space;
}

void field_bytes(struct writer *writer, uint8_t tag, const void *value, size_t size) {
    uint8_t *space = field_space(writer, tag, size);
    if (space != NULL && size > 0)
        memcpy(space, value, size);
}

void field_number(struct writer *writer, uint8_t tag, uint64_t value) {
    uint8_t *space = field_space(writer, tag, 8);
    if (space != NULL)
        write_number(space, value, 8);
}

void field_text(struct writer *writer, uint8_t tag, const char *text) {
    field_bytes(writer, tag, text, strlen(text));
}

void entry_begin(struct writer *writer) {
    writer->nested = end_of(writer);
    field_space(writer, FIELD_ENTRY, 0);
}

void entry_end(struct writer *writer) {
    if (!writer->failed)
        write_number(place(writer, writer->nested) + 1, end_of(writer) - writer->nested - FIELD_HEADER_SIZE, 4);
    writer->nested = 0;
}

size_t frame_size(const struct writer *writer) {
    return end_of(writer) - writer->start;
}

void frame_fields_end(struct writer *writer) {
    if (!writer->failed)
        write_number(place(writer, writer->start) + AT_FIELDS_SIZE, frame_size(writer) - HEADER_SIZE, 4);
}

uint8_t *frame_end(struct writer *writer, uint16_t status, uint64_t counter, bool tagged) {
    if (writer->failed || !bytes_reserve(writer->out, TAG_SIZE)) {
        writer->failed = true;
        return NULL;
    }
    uint8_t *header = place(writer, writer->start);
    if (tagged)
        writer->out->size += TAG_SIZE;
    write_number(header + AT_SIZE, frame_size(writer), 4);
    header[AT_FLAGS] = tagged ? FLAG_TAGGED : 0;
    write_number(header + AT_STATUS, status, 2);
    write_number(header + AT_COUNTER, counter, 8);
    return header;
}

size_t frame_covered(const uint8_t *header) {
    return HEADER_SIZE + read_number(header + AT_FIELDS_SIZE, 4);
}

void frame_drop(struct writer *writer) {
    if (end_of(writer) > writer->start)
        writer->out->size = writer->out->taken + writer->start;
}
