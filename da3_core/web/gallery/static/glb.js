// SPDX-License-Identifier: Apache-2.0
// The point and line clouds of a GLB file (glTF 2.0, Khronos), as da3 exports them: untransformed, not sparse.

export const POINTS = 0;
export const LINES = 1;

const MAGIC = 0x46546c67; // "glTF"
const JSON_CHUNK = 0x4e4f534a;
const UNSIGNED_BYTE = 5121;
const FLOAT = 5126;
const HEADER_BYTES = 12;
const CHUNK_HEADER_BYTES = 8;

/**
 * @param {ArrayBuffer} buffer the file
 * @returns {{isMetric: boolean,
 *     clouds: {mode: number, positions: Float32Array, colors: Uint8Array, confidence: ?Float32Array}[]}}
 *     whether lengths are metres; xyz and RGBA of every cloud
 */
export function readScene(buffer) {
  const view = new DataView(buffer);
  if (view.byteLength < HEADER_BYTES + CHUNK_HEADER_BYTES || view.getUint32(0, true) !== MAGIC) {
    throw new Error("it is no GLB file");
  }
  const jsonBytes = view.getUint32(HEADER_BYTES, true);
  if (view.getUint32(HEADER_BYTES + 4, true) !== JSON_CHUNK) {
    throw new Error("its description is missing");
  }
  const jsonStart = HEADER_BYTES + CHUNK_HEADER_BYTES;
  const gltf = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, jsonStart, jsonBytes)));
  const binaryStart = jsonStart + jsonBytes + CHUNK_HEADER_BYTES;

  /** The numbers of an accessor, without a copy. */
  function values(index, components, Type) {
    const accessor = gltf.accessors[index];
    const part = gltf.bufferViews[accessor.bufferView];
    const start = binaryStart + (part.byteOffset ?? 0) + (accessor.byteOffset ?? 0);
    const count = accessor.count * components;
    if (start + count * Type.BYTES_PER_ELEMENT > buffer.byteLength) {
      throw new Error("it is cut off");
    }
    return new Type(buffer, start, count);
  }

  const clouds = (gltf.meshes ?? [])
    .flatMap((mesh) => mesh.primitives)
    .filter(({ mode }) => mode === POINTS || mode === LINES)
    .map(({ mode, attributes }) => {
      const [position, color] = [gltf.accessors[attributes.POSITION], gltf.accessors[attributes.COLOR_0]];
      if (position.componentType !== FLOAT || color?.componentType !== UNSIGNED_BYTE || color.type !== "VEC4") {
        throw new Error("its numbers are of another kind than da3 writes");
      }
      return {
        mode,
        positions: values(attributes.POSITION, 3, Float32Array),
        colors: values(attributes.COLOR_0, 4, Uint8Array),
        confidence: attributes._CONFIDENCE === undefined ? null : values(attributes._CONFIDENCE, 1, Float32Array),
      };
    });
  return { clouds, isMetric: gltf.scenes?.[0]?.extras?.is_metric === true };
}
