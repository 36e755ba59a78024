/* An external delegate that writes down what it is shown and claims no node; compiled by tests/delegates.py.

   An Edge TPU's library is such a delegate: two functions that an engine looks up by name, the first with the options
   of `load_delegate`, and a `Prepare` that is shown each graph and may claim nodes of it. Each call appends one line of
   JSON to the file that the environment variable DELEGATE_LOG names. With NO_DEVICE defined, a string, creating fails:
   NO_DEVICE is reported, or nothing if it is empty, which is what libedgetpu does when it finds no device.

   No package brings TFLite's headers. What a delegate needs of TfLiteContext and its kin is declared here, with the
   layout of tflite/core/c/common.h of LiteRT 2. tflite-runtime 2.14 has the same: tests/test_delegate.py compares all
   that is read through it, on each engine, with the model file. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { OK = 0, FAILED = 1, READ_ONLY_MAPPED = 1 }; /* TfLiteStatus; TfLiteAllocationType of what the file holds */

typedef struct {
  int size;
  int data[];
} TfLiteIntArray;

typedef struct {
  float scale;
  int32_t zero_point;
} TfLiteQuantizationParams;

typedef struct { /* all of it: tensors lie in an array */
  int type;
  void *data;
  TfLiteIntArray *dims;
  TfLiteQuantizationParams params;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  void *delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  struct {
    int type;
    void *params;
  } quantization;
  void *sparsity;
  const TfLiteIntArray *dims_signature;
} TfLiteTensor;

typedef struct { /* the beginning */
  TfLiteIntArray *inputs;
  TfLiteIntArray *outputs;
} TfLiteNode;

typedef struct { /* the beginning */
  void *init, *free, *prepare, *invoke, *profiling_string;
  int32_t builtin_code;
  const char *custom_name;
  int version;
} TfLiteRegistration;

typedef struct TfLiteContext { /* the beginning */
  size_t tensors_size;
  int (*GetExecutionPlan)(struct TfLiteContext *, TfLiteIntArray **);
  TfLiteTensor *tensors;
  void *impl_;
  void *ResizeTensor, *ReportError, *AddTensors;
  int (*GetNodeAndRegistration)(struct TfLiteContext *, int, TfLiteNode **, TfLiteRegistration **);
} TfLiteContext;

typedef struct TfLiteDelegate {
  void *data_;
  int (*Prepare)(TfLiteContext *, struct TfLiteDelegate *);
  void *CopyFromBufferHandle, *CopyToBufferHandle, *FreeBufferHandle;
  int64_t flags;
  void *opaque_delegate_builder;
} TfLiteDelegate;

static FILE *open_log(void) {
  const char *path = getenv("DELEGATE_LOG");
  return path ? fopen(path, "a") : NULL;
}

static void write_string(FILE *log, const char *text) {
  fputc('"', log);
  for (; *text; text++) {
    if (*text == '"' || *text == '\\' || (unsigned char)*text < ' ') fprintf(log, "\\u%04x", (unsigned char)*text);
    else fputc(*text, log);
  }
  fputc('"', log);
}

static void write_tensors(FILE *log, const TfLiteContext *context, const TfLiteIntArray *indices) {
  fprintf(log, "[");
  for (int i = 0; i < indices->size; i++) {
    int index = indices->data[i];
    if (i) fprintf(log, ", ");
    if (index < 0) { /* an optional tensor that is absent */
      fprintf(log, "null");
      continue;
    }
    const TfLiteTensor *tensor = &context->tensors[index];
    fprintf(log, "{\"index\": %d, \"name\": ", index);
    write_string(log, tensor->name ? tensor->name : "");
    fprintf(log, ", \"type\": %d, \"shape\": [", tensor->type);
    for (int d = 0; d < tensor->dims->size; d++) fprintf(log, "%s%d", d ? ", " : "", tensor->dims->data[d]);
    fprintf(log, "], \"scale\": %.9g, \"zero_point\": %d, \"constant\": %s}", (double)tensor->params.scale,
            tensor->params.zero_point, tensor->allocation_type == READ_ONLY_MAPPED ? "true" : "false");
  }
  fprintf(log, "]");
}

static int prepare(TfLiteContext *context, TfLiteDelegate *delegate) {
  (void)delegate;
  TfLiteIntArray *plan;
  FILE *log = open_log();
  if (!log) return FAILED;
  if (context->GetExecutionPlan(context, &plan) != OK) return fclose(log), FAILED;
  fprintf(log, "{\"call\": \"prepare\", \"tensors\": %zu, \"nodes\": [", context->tensors_size);
  for (int i = 0; i < plan->size; i++) {
    TfLiteNode *node;
    TfLiteRegistration *registration;
    if (context->GetNodeAndRegistration(context, plan->data[i], &node, &registration) != OK) return fclose(log), FAILED;
    fprintf(log, "%s{\"operator\": %d, \"version\": %d, \"custom\": ", i ? ", " : "", registration->builtin_code,
            registration->version);
    write_string(log, registration->custom_name ? registration->custom_name : "");
    fprintf(log, ", \"inputs\": ");
    write_tensors(log, context, node->inputs);
    fprintf(log, ", \"outputs\": ");
    write_tensors(log, context, node->outputs);
    fprintf(log, "}");
  }
  fprintf(log, "]}\n");
  return fclose(log) == 0 ? OK : FAILED;
}

TfLiteDelegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                              void (*report_error)(const char *)) {
  FILE *log = open_log();
  if (!log) return report_error("DELEGATE_LOG names no file that can be written"), NULL;
  fprintf(log, "{\"call\": \"create\", \"options\": {");
  for (size_t i = 0; i < count; i++) {
    if (i) fprintf(log, ", ");
    write_string(log, keys[i]);
    fprintf(log, ": ");
    write_string(log, values[i]);
  }
  fprintf(log, "}}\n");
  fclose(log);
#ifdef NO_DEVICE
  if (NO_DEVICE[0]) report_error(NO_DEVICE);
  return NULL;
#endif
  TfLiteDelegate *delegate = calloc(1, sizeof *delegate);
  if (delegate) delegate->Prepare = prepare;
  return delegate;
}

void tflite_plugin_destroy_delegate(TfLiteDelegate *delegate) {
  FILE *log = delegate ? open_log() : NULL; /* an engine destroys what could not be created, too */
  free(delegate);
  if (!log) return;
  fprintf(log, "{\"call\": \"destroy\"}\n");
  fclose(log);
}
