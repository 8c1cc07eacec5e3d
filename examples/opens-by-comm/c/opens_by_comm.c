// Counts openat(2) by comm, with the total and the longest latency: the example in C, with nothing but wit/.
//
// plugin.h is what `wit-bindgen c` makes of the plugin contract; README.md has the commands.

#include <stdlib.h>
#include <string.h>

#include "plugin.h"

typedef portcullis_plugin_types_probe_t probe_t;
typedef portcullis_plugin_types_stream_t stream_t;
typedef portcullis_plugin_types_rows_t rows_t;
typedef portcullis_plugin_types_values_t values_t;
typedef portcullis_plugin_output_table_column_t table_column_t;
typedef portcullis_plugin_output_table_values_t table_values_t;

// One comm. Its name is ours: a batch is freed when `handle` returns.
typedef struct {
    char *comm;
    size_t length;
    uint64_t count, total, longest;
} sum_t;

static sum_t *sums;
static size_t sum_count, sum_room;

// Where `prepare` found the columns of the one stream.
static size_t comm_column, duration_column;

// Fails a call with a text. Returned texts and lists are freed with free(3), so they are copies.
static bool fail(plugin_string_t *err, const char *text)
{
    plugin_string_dup(err, text);
    return false;
}

bool exports_plugin_configure(plugin_string_t *config, plugin_program_t *ret, plugin_string_t *err)
{
    if (config->len != 2 || memcmp(config->ptr, "{}", 2) != 0) {
        plugin_string_free(config);
        return fail(err, "config: this plugin has nothing to configure");
    }
    plugin_string_free(config);

    probe_t *probe = calloc(1, sizeof *probe);
    plugin_string_t *attach = calloc(1, sizeof *attach);
    if (!probe || !attach)
        abort();
    plugin_string_dup(&probe->name, "openat");
    plugin_string_dup(attach, "span:syscall:openat");
    probe->attach.ptr = attach;
    probe->attach.len = 1;
    plugin_string_dup(&probe->body, "emit opens { comm, duration };");
    ret->probes.ptr = probe;
    ret->probes.len = 1;
    ret->timers.ptr = NULL;
    ret->timers.len = 0;
    return true;
}

// The position of the column `name`, or -1 if there is none of that kind.
static int find_column(const stream_t *stream, const char *name, portcullis_plugin_types_kind_t kind)
{
    for (size_t i = 0; i < stream->fields.len; i++) {
        const portcullis_plugin_types_field_t *field = &stream->fields.ptr[i];
        if (field->name.len == strlen(name) && memcmp(field->name.ptr, name, field->name.len) == 0)
            return field->kind == kind ? (int)i : -1;
    }
    return -1;
}

bool exports_plugin_prepare(plugin_schema_t *schema, plugin_list_table_t *ret, plugin_string_t *err)
{
    int comm = -1, duration = -1;
    if (schema->streams.len == 1) {
        comm = find_column(&schema->streams.ptr[0], "comm", PORTCULLIS_PLUGIN_TYPES_KIND_TEXT);
        duration = find_column(&schema->streams.ptr[0], "duration", PORTCULLIS_PLUGIN_TYPES_KIND_U64);
    }
    plugin_schema_free(schema);
    if (comm < 0 || duration < 0)
        return fail(err, "one stream with the columns comm (text) and duration (u64) is expected");
    comm_column = (size_t)comm;
    duration_column = (size_t)duration;

    static const struct {
        const char *name;
        portcullis_plugin_output_cell_kind_t kind;
        portcullis_plugin_output_unit_t unit;
    } columns[] = {
        {"comm", PORTCULLIS_PLUGIN_OUTPUT_CELL_KIND_TEXT, PORTCULLIS_PLUGIN_OUTPUT_UNIT_NONE},
        {"count", PORTCULLIS_PLUGIN_OUTPUT_CELL_KIND_U64, PORTCULLIS_PLUGIN_OUTPUT_UNIT_NONE},
        {"total", PORTCULLIS_PLUGIN_OUTPUT_CELL_KIND_U64, PORTCULLIS_PLUGIN_OUTPUT_UNIT_NANOSECONDS},
        {"longest", PORTCULLIS_PLUGIN_OUTPUT_CELL_KIND_U64, PORTCULLIS_PLUGIN_OUTPUT_UNIT_NANOSECONDS},
    };
    const size_t count = sizeof columns / sizeof *columns;
    plugin_table_t *table = calloc(1, sizeof *table);
    table_column_t *column = calloc(count, sizeof *column);
    if (!table || !column)
        abort();
    for (size_t i = 0; i < count; i++) {
        plugin_string_dup(&column[i].name, columns[i].name);
        column[i].kind = columns[i].kind;
        column[i].unit = columns[i].unit;
    }
    plugin_string_dup(&table->name, "opens_by_comm");
    table->columns.ptr = column;
    table->columns.len = count;
    ret->ptr = table;
    ret->len = 1;
    return true;
}

bool exports_plugin_start(plugin_opening_t *opening, plugin_string_t *err)
{
    (void)err;
    plugin_opening_free(opening);
    return true;
}

// The sum of a comm; it is added if it is new.
static size_t find_sum(const plugin_string_t *comm)
{
    for (size_t i = 0; i < sum_count; i++)
        if (sums[i].length == comm->len && memcmp(sums[i].comm, comm->ptr, comm->len) == 0)
            return i;
    if (sum_count == sum_room) {
        sum_room = sum_room ? 2 * sum_room : 64;
        sums = realloc(sums, sum_room * sizeof *sums);
        if (!sums)
            abort();
    }
    sum_t *sum = &sums[sum_count];
    *sum = (sum_t){.comm = malloc(comm->len + 1), .length = comm->len};
    if (!sum->comm)
        abort();
    memcpy(sum->comm, comm->ptr, comm->len);
    return sum_count++;
}

static bool add_rows(const plugin_batch_t *batch, const rows_t *rows, plugin_string_t *err)
{
    if (comm_column >= rows->columns.len || duration_column >= rows->columns.len)
        return fail(err, "a batch lacks a column of its schema");
    const values_t *comms = &rows->columns.ptr[comm_column].values;
    const values_t *durations = &rows->columns.ptr[duration_column].values;
    if (comms->tag != PORTCULLIS_PLUGIN_TYPES_VALUES_TEXT || durations->tag != PORTCULLIS_PLUGIN_TYPES_VALUES_U64)
        return fail(err, "a batch has a column of another kind than its schema says");

    // Texts are numbered within a batch, so each is looked up once: its sum's position plus one, 0 for not yet.
    size_t *known = calloc(batch->strings.len + 1, sizeof *known);
    if (!known)
        abort();
    for (size_t row = 0; row < rows->time.len; row++) {
        const uint32_t text = comms->val.text.ptr[row];
        if (known[text] == 0)
            known[text] = find_sum(&batch->strings.ptr[text]) + 1;
        sum_t *sum = &sums[known[text] - 1];
        const uint64_t duration = durations->val.u64.ptr[row];
        sum->count += 1;
        sum->total += duration;
        if (duration > sum->longest)
            sum->longest = duration;
    }
    free(known);
    return true;
}

bool exports_plugin_handle(plugin_batch_t *batch, plugin_string_t *err)
{
    bool ok = true;
    for (size_t i = 0; ok && i < batch->rows.len; i++)
        ok = add_rows(batch, &batch->rows.ptr[i], err);
    plugin_batch_free(batch);
    return ok;
}

bool exports_plugin_tick(uint32_t timer, plugin_string_t *err)
{
    (void)timer;
    (void)err;
    return true;
}

bool exports_plugin_finish(plugin_closing_t *closing, plugin_string_t *err)
{
    // What is handed to the host stays ours, so this is one block for all the columns.
    uint64_t *numbers = calloc(4 * sum_count + 1, sizeof *numbers);
    plugin_string_t *comms = calloc(sum_count + 1, sizeof *comms);
    uint32_t *texts = calloc(sum_count + 1, sizeof *texts);
    if (!numbers || !comms || !texts)
        abort();
    uint64_t *time = numbers, *count = time + sum_count, *total = count + sum_count, *longest = total + sum_count;
    for (size_t i = 0; i < sum_count; i++) {
        time[i] = closing->quiesced;
        comms[i] = (plugin_string_t){(uint8_t *)sums[i].comm, sums[i].length};
        texts[i] = (uint32_t)i;
        count[i] = sums[i].count;
        total[i] = sums[i].total;
        longest[i] = sums[i].longest;
    }
    plugin_closing_free(closing);

    table_values_t columns[4] = {
        {.cells = {.tag = PORTCULLIS_PLUGIN_OUTPUT_CELLS_TEXT, .val.text = {texts, sum_count}}},
        {.cells = {.tag = PORTCULLIS_PLUGIN_OUTPUT_CELLS_U64, .val.u64 = {count, sum_count}}},
        {.cells = {.tag = PORTCULLIS_PLUGIN_OUTPUT_CELLS_U64, .val.u64 = {total, sum_count}}},
        {.cells = {.tag = PORTCULLIS_PLUGIN_OUTPUT_CELLS_U64, .val.u64 = {longest, sum_count}}},
    };
    portcullis_plugin_output_table_rows_t rows = {
        .time = {time, sum_count}, .columns = {columns, 4}, .strings = {comms, sum_count}};
    const bool ok = portcullis_plugin_output_append(0, &rows, err);
    free(numbers);
    free(comms);
    free(texts);
    return ok;
}

bool exports_plugin_hand_over(plugin_list_u8_t *ret)
{
    (void)ret;
    return false;
}
