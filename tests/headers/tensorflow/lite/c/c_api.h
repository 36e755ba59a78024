/* What examples/c/stream.c uses of the TFLite C API, for the test that compiles it.

   No package brings the C API's headers: TensorFlow's wheel leaves its lite/ folder out, and the wheels that have the
   library come without them. These are declarations of that library's functions, in the form they have in 2.17;
   users take the original header. */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct TfLiteModel TfLiteModel;
typedef struct TfLiteInterpreterOptions TfLiteInterpreterOptions;
typedef struct TfLiteInterpreter TfLiteInterpreter;
typedef struct TfLiteSignatureRunner TfLiteSignatureRunner;
typedef struct TfLiteTensor TfLiteTensor;
typedef struct TfLiteQuantizationParams {
  float scale;
  int32_t zero_point;
} TfLiteQuantizationParams;
typedef enum { kTfLiteOk = 0 } TfLiteStatus;
typedef enum { kTfLiteFloat32 = 1, kTfLiteInt8 = 9 } TfLiteType;

TfLiteModel *TfLiteModelCreateFromFile(const char *path);
void TfLiteModelDelete(TfLiteModel *model);

TfLiteInterpreterOptions *TfLiteInterpreterOptionsCreate(void);
void TfLiteInterpreterOptionsSetNumThreads(TfLiteInterpreterOptions *options, int32_t threads);
void TfLiteInterpreterOptionsDelete(TfLiteInterpreterOptions *options);

TfLiteInterpreter *TfLiteInterpreterCreate(const TfLiteModel *model, const TfLiteInterpreterOptions *options);
void TfLiteInterpreterDelete(TfLiteInterpreter *interpreter);

TfLiteSignatureRunner *TfLiteInterpreterGetSignatureRunner(const TfLiteInterpreter *interpreter, const char *key);
size_t TfLiteSignatureRunnerGetInputCount(const TfLiteSignatureRunner *runner);
size_t TfLiteSignatureRunnerGetOutputCount(const TfLiteSignatureRunner *runner);
const char *TfLiteSignatureRunnerGetInputName(const TfLiteSignatureRunner *runner, int32_t index);
TfLiteTensor *TfLiteSignatureRunnerGetInputTensor(TfLiteSignatureRunner *runner, const char *name);
const TfLiteTensor *TfLiteSignatureRunnerGetOutputTensor(const TfLiteSignatureRunner *runner, const char *name);
TfLiteStatus TfLiteSignatureRunnerAllocateTensors(TfLiteSignatureRunner *runner);
TfLiteStatus TfLiteSignatureRunnerInvoke(TfLiteSignatureRunner *runner);
void TfLiteSignatureRunnerDelete(TfLiteSignatureRunner *runner);

TfLiteType TfLiteTensorType(const TfLiteTensor *tensor);
int32_t TfLiteTensorNumDims(const TfLiteTensor *tensor);
int32_t TfLiteTensorDim(const TfLiteTensor *tensor, int32_t dimension);
size_t TfLiteTensorByteSize(const TfLiteTensor *tensor);
void *TfLiteTensorData(const TfLiteTensor *tensor);
TfLiteQuantizationParams TfLiteTensorQuantizationParams(const TfLiteTensor *tensor);
TfLiteStatus TfLiteTensorCopyFromBuffer(TfLiteTensor *tensor, const void *data, size_t bytes);
