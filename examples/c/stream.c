/* Embeddings of a sound as it comes, from an l3edge model file and the TFLite C API alone.

     cc -std=c11 -O2 -I HEADERS stream.c -o stream -ltensorflowlite_c
     arecord -q -t raw -f S16_LE -c 1 -r 16000 | ./stream MODEL.tflite s16 $(python3 numbers.py MODEL.tflite)

   Reads mono PCM in the machine's byte order from standard input, int16 ("s16") or float32 with full scale 1.0 ("f32"),
   at the model's rate. Writes one line a hop: the window's centre in seconds, then the embedding.

   The five numbers follow from the l3edge.json inside the model file (docs/model-format.md), and are constants of an
   application: the sample rate, the window, the hop, where a step starts to read, counted from its hop, and the columns
   of a window; 16000 16000 1600 -800 2 for edge-s, edge-m and edge-l. All else is read from the tensors. */

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/lite/c/c_api.h"

enum { MOST_STATES = 64, LARGEST = 1 << 24 };

static void check(bool good, const char *complaint) {
  if (good) return;
  fprintf(stderr, "stream: %s\n", complaint);
  exit(1);
}

static long number(const char *text, long least, long most, const char *complaint) {
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  check(errno == 0 && end != text && *end == '\0' && value >= least && value <= most, complaint);
  return value;
}

static void *zeros(size_t count, size_t size) {
  void *memory = calloc(count, size);
  check(memory != NULL, "out of memory");
  return memory;
}

/* Up to `count` samples as float32 into `to`, zeros for what is not finite and after the end of the input. Returns how
   many there were. */
static long read_samples(float *to, long count, bool int16) {
  static int16_t block[4096];
  long have = 0;
  while (have < count) {
    long want = count - have < 4096 ? count - have : 4096;
    size_t got = int16 ? fread(block, sizeof *block, (size_t)want, stdin)
                       : fread(to + have, sizeof *to, (size_t)want, stdin);
    for (size_t i = 0; int16 && i < got; i++) to[have + (long)i] = (float)block[i] / 32768.0f;
    have += (long)got;
    if ((long)got < want) break;
  }
  check(!ferror(stdin), "standard input cannot be read");
  for (long i = 0; i < count; i++)
    if (i >= have || !isfinite(to[i])) to[i] = 0.0f;
  return have;
}

/* The value that element `i` of an output stands for. */
static float value(const TfLiteTensor *tensor, long i) {
  if (TfLiteTensorType(tensor) == kTfLiteFloat32) return ((const float *)TfLiteTensorData(tensor))[i];
  TfLiteQuantizationParams q = TfLiteTensorQuantizationParams(tensor);
  return (float)(((const int8_t *)TfLiteTensorData(tensor))[i] - q.zero_point) * q.scale;
}

int main(int argc, char **argv) {
  check(argc == 8, "usage: stream MODEL.tflite s16|f32 RATE WINDOW HOP START COLUMNS < PCM");
  bool int16 = strcmp(argv[2], "s16") == 0;
  check(int16 || strcmp(argv[2], "f32") == 0, "the second argument says how samples are coded: s16 or f32");
  long rate = number(argv[3], 1, LARGEST, "RATE must be in Hz");
  long window = number(argv[4], 1, LARGEST, "WINDOW must be a number of samples");
  long hop = number(argv[5], 1, window, "HOP must be a number of samples, at most WINDOW");
  long start = number(argv[6], -LARGEST, 0, "START must be a number of samples, zero or negative");
  long columns = number(argv[7], 1, LARGEST, "COLUMNS must be a positive number");
  check(window % hop == 0, "WINDOW must be a multiple of HOP");

  /* The interpreter ignores the archive behind the flatbuffer: the file is loaded as it is. */
  TfLiteModel *model = TfLiteModelCreateFromFile(argv[1]);
  check(model != NULL, "the model file cannot be read");
  TfLiteInterpreterOptions *options = TfLiteInterpreterOptionsCreate();
  TfLiteInterpreterOptionsSetNumThreads(options, 1);
  TfLiteInterpreter *interpreter = TfLiteInterpreterCreate(model, options);
  check(interpreter != NULL, "the interpreter refuses the model");
  TfLiteSignatureRunner *step = TfLiteInterpreterGetSignatureRunner(interpreter, "stream");
  check(step != NULL, "the model has no signature `stream`: it does not stream");
  check(TfLiteSignatureRunnerAllocateTensors(step) == kTfLiteOk, "the tensors cannot be allocated");

  TfLiteTensor *samples = TfLiteSignatureRunnerGetInputTensor(step, "samples");
  const TfLiteTensor *output = TfLiteSignatureRunnerGetOutputTensor(step, "columns");
  check(samples != NULL && output != NULL, "the signature `stream` lacks `samples` or `columns`");
  check(TfLiteTensorType(samples) == kTfLiteFloat32 && TfLiteTensorNumDims(samples) == 1, "`samples` must be float32");
  check(TfLiteTensorNumDims(output) == 3, "`columns` must be [1, columns a hop, embedding size]");
  check(TfLiteTensorType(output) == kTfLiteFloat32 || TfLiteTensorType(output) == kTfLiteInt8,
        "`columns` must be float32 or int8");
  long reads = TfLiteTensorDim(samples, 0), fresh = TfLiteTensorDim(output, 1), size = TfLiteTensorDim(output, 2);
  check(start + reads <= hop, "a step that starts at START would read beyond its hop");

  /* A state goes out as it has to come in with the next step, by the same name. They begin as zero bytes: what they
     hold before the first window reaches no window. */
  TfLiteTensor *state_in[MOST_STATES];
  const TfLiteTensor *state_out[MOST_STATES];
  int states = 0;
  size_t inputs = TfLiteSignatureRunnerGetInputCount(step);
  check(inputs <= MOST_STATES && inputs == TfLiteSignatureRunnerGetOutputCount(step), "strange number of tensors");
  for (size_t i = 0; i < inputs; i++) {
    const char *name = TfLiteSignatureRunnerGetInputName(step, (int32_t)i);
    if (strcmp(name, "samples") == 0) continue;
    TfLiteTensor *in = TfLiteSignatureRunnerGetInputTensor(step, name);
    const TfLiteTensor *out = TfLiteSignatureRunnerGetOutputTensor(step, name);
    check(out != NULL && TfLiteTensorByteSize(in) == TfLiteTensorByteSize(out), "a state changes its shape");
    memset(TfLiteTensorData(in), 0, TfLiteTensorByteSize(in));
    state_in[states] = in;
    state_out[states++] = out;
  }

  /* `sound` is what lies between where the step begins to read and the end of its hop. */
  long kept = -start, steps_per_window = window / hop;
  float *sound = zeros((size_t)(kept + hop), sizeof *sound);
  float *ring = zeros((size_t)(columns * size), sizeof *ring);
  long shift = fresh < columns ? fresh : columns; /* only the newest columns of a step that has more than a window */
  bool ended = false;
  int64_t total = 0; /* 32 bits would be 37 hours */

  for (int64_t s = 0;; s++) {
    long got = read_samples(sound + kept, hop, int16);
    total += got;
    ended = ended || got < hop;
    if (ended) { /* zeros follow until every sample lies in some window; no sample, no window */
      int64_t rest = total > window ? total - window : 0;
      int64_t steps = total > 0 ? steps_per_window + (rest + hop - 1) / hop : 0;
      if (s >= steps) break;
    }
    check(TfLiteTensorCopyFromBuffer(samples, sound, (size_t)reads * sizeof *sound) == kTfLiteOk, "`samples` stay unset");
    check(TfLiteSignatureRunnerInvoke(step) == kTfLiteOk, "the step failed");
    for (int i = 0; i < states; i++)
      memcpy(TfLiteTensorData(state_in[i]), TfLiteTensorData(state_out[i]), TfLiteTensorByteSize(state_in[i]));
    memmove(sound, sound + hop, (size_t)kept * sizeof *sound);

    memmove(ring, ring + shift * size, (size_t)((columns - shift) * size) * sizeof *ring);
    for (long i = 0; i < shift * size; i++)
      ring[(columns - shift) * size + i] = value(output, (fresh - shift) * size + i);

    int64_t first = s + 1 - steps_per_window; /* the window, in hops, that this step completes */
    if (first < 0) continue;
    printf("%.9g", (double)(first * hop + window / 2) / (double)rate);
    for (long i = 0; i < size; i++) {
      float most = ring[i];
      for (long c = 1; c < columns; c++)
        if (ring[c * size + i] > most) most = ring[c * size + i];
      printf(" %.9g", (double)most);
    }
    printf("\n");
    check(fflush(stdout) == 0, "standard output cannot be written");
  }

  free(ring);
  free(sound);
  TfLiteSignatureRunnerDelete(step);
  TfLiteInterpreterDelete(interpreter);
  TfLiteInterpreterOptionsDelete(options);
  TfLiteModelDelete(model);
  return 0;
}
