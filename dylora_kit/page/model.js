"use strict";
// The network: a small vision transformer with low-rank adapters on query and value of each layer, in plain arithmetic.
// A matrix is a flat array, row after row; [n, m] is one of n rows with m numbers each.

window.dylora = {};

dylora.model = (() => {
  const text = (id) => document.getElementById(id).textContent;
  const bytes = (id) => Uint8Array.from(atob(text(id)), (letter) => letter.charCodeAt(0));
  const facts = JSON.parse(text("facts"));
  const numbers = new Float32Array(bytes("weights").buffer);
  const scans = bytes("pixels");
  const { image, patch, heads, layers, epsilon } = facts.sizes;
  const patches = (image / patch) ** 2;
  const tokens = patches + 1; // the first is the class token, which the answer is read from

  const tensor = (name) => {
    const [start, length] = facts.tensors[name];
    return Float64Array.from(numbers.subarray(start, start + length));
  };
  const pair = (name) => ({ weight: tensor(`${name}.weight`), bias: tensor(`${name}.bias`) });

  const base = {
    classToken: tensor("vit.embeddings.cls_token"),
    positions: tensor("vit.embeddings.position_embeddings"),
    patches: pair("vit.embeddings.patch_embeddings.projection"),
    norm: pair("vit.layernorm"),
    layers: Array.from({ length: layers }, (_, n) => ({
      before: pair(`vit.layers.${n}.layernorm_before`),
      query: pair(`vit.layers.${n}.attention.q_proj`),
      key: pair(`vit.layers.${n}.attention.k_proj`),
      value: pair(`vit.layers.${n}.attention.v_proj`),
      output: pair(`vit.layers.${n}.attention.o_proj`),
      after: pair(`vit.layers.${n}.layernorm_after`),
      up: pair(`vit.layers.${n}.mlp.fc1`),
      down: pair(`vit.layers.${n}.mlp.fc2`),
    })),
  };
  const width = base.norm.bias.length;

  const matrices = (name, layer) => ({
    A: tensor(`${name}.${layer}.lora_A.weight`),
    B: tensor(`${name}.${layer}.lora_B.weight`),
  });
  const adapter = (name) => ({
    r: facts.adapters[name].r,
    alpha: facts.adapters[name].alpha,
    classifier: pair(`${name}.classifier`),
    layers: base.layers.map((_, n) => ({
      query: matrices(name, `vit.layers.${n}.attention.q_proj`),
      value: matrices(name, `vit.layers.${n}.attention.v_proj`),
    })),
  });
  const adapters = Object.fromEntries(Object.keys(facts.adapters).map((name) => [name, adapter(name)]));

  // Σ x[i + k] · y[j + k] over `length` places; four sums at once, so that none waits for the one before it
  const dot = (x, i, y, j, length) => {
    let a = 0, b = 0, c = 0, d = 0;
    for (let k = 0; k < length; k += 4) {
      a += x[i + k] * y[j + k];
      b += x[i + k + 1] * y[j + k + 1];
      c += x[i + k + 2] * y[j + k + 2];
      d += x[i + k + 3] * y[j + k + 3];
    }
    return a + b + c + d;
  };

  // W x + bias for the first n rows of x: x [≥ n, in] · weight [out, in]ᵀ → [n, out]
  const linear = (x, n, { weight, bias }) => {
    const out = bias.length, inner = weight.length / out;
    const y = new Float64Array(n * out);
    for (let j = 0; j < out; j++) {
      for (let i = 0; i < n; i++) y[i * out + j] = bias[j] + dot(x, i * inner, weight, j * inner, inner);
    }
    return y;
  };

  // h = W x + bias + (α/b) · B[:, :b] · A[:b] · x: x [≥ n, in], A [r, in], B [out, r] → [n, out]
  const adapted = (x, n, layer, { A, B }, { r, alpha }, b) => {
    const h = linear(x, n, layer);
    const out = layer.bias.length, inner = A.length / r;
    for (let i = 0; i < n; i++) {
      for (let k = 0; k < b; k++) {
        const z = (alpha / b) * dot(x, i * inner, A, k * inner, inner);
        for (let j = 0; j < out; j++) h[i * out + j] += B[j * r + k] * z;
      }
    }
    return h;
  };

  // layer norm of each row: x [n, width] → [n, width]
  const normed = (x, { weight, bias }) => {
    const y = new Float64Array(x.length);
    for (let start = 0; start < x.length; start += width) {
      const row = x.subarray(start, start + width);
      const mean = row.reduce((sum, value) => sum + value, 0) / width;
      const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / width;
      const scale = 1 / Math.sqrt(variance + epsilon);
      for (let k = 0; k < width; k++) y[start + k] = (row[k] - mean) * scale * weight[k] + bias[k];
    }
    return y;
  };

  const softmax = (values) => {
    const most = Math.max(...values);
    const powers = values.map((value) => Math.exp(value - most));
    const sum = powers.reduce((total, value) => total + value, 0);
    return powers.map((value) => value / sum);
  };

  // query [n, width], key and value [tokens, width] → [n, width]; each head has some columns of its own
  const attention = (query, key, value, n) => {
    const size = width / heads;
    const mixed = new Float64Array(n * width);
    const scores = new Float64Array(tokens);
    for (let start = 0; start < width; start += size) {
      for (let i = 0; i < n; i++) {
        for (let t = 0; t < tokens; t++) {
          scores[t] = dot(query, i * width + start, key, t * width + start, size) / Math.sqrt(size);
        }
        softmax(scores).forEach((share, t) => {
          for (let k = 0; k < size; k++) mixed[i * width + start + k] += share * value[t * width + start + k];
        });
      }
    }
    return mixed;
  };

  // the error function, within 1.5e-7 (Abramowitz and Stegun, 7.1.26)
  const erf = (x) => {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return Math.sign(x) * (1 - sum * Math.exp(-x * x));
  };
  const gelu = (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2));

  // 64 pixels from 0 to 16 → [tokens, width]: the class token, then one row for each patch, each with its position
  const embedded = (pixels) => {
    const across = image / patch;
    const pieces = new Float64Array(patches * patch * patch); // [patches, patch²]
    for (let row = 0; row < image; row++) {
      for (let column = 0; column < image; column++) {
        const piece = Math.floor(row / patch) * across + Math.floor(column / patch);
        pieces[piece * patch * patch + (row % patch) * patch + (column % patch)] = pixels[row * image + column] / 8 - 1;
      }
    }
    const x = base.positions.slice();
    base.classToken.forEach((value, k) => (x[k] += value));
    linear(pieces, patches, base.patches).forEach((value, k) => (x[width + k] += value));
    return x;
  };

  const sum = (x, y) => x.map((value, k) => value + y[k]);

  // x [tokens, width] → [n, width]: attention, then two dense layers, each added to what it is given
  const block = (x, n, layer, adapter, change, b) => {
    const seen = normed(x, layer.before);
    const query = adapted(seen, n, layer.query, change.query, adapter, b);
    const key = linear(seen, tokens, layer.key);
    const value = adapted(seen, tokens, layer.value, change.value, adapter, b);
    const mixed = sum(linear(attention(query, key, value, n), n, layer.output), x);
    const hidden = linear(normed(mixed, layer.after), n, layer.up).map(gelu);
    return sum(linear(hidden, n, layer.down), mixed);
  };

  // ten logits for 64 pixels from 0 to 16 of a digit turned by 90°, by the adapter "dylora" or "lora" at rank b
  const logits = (name, b, pixels) => {
    const adapter = adapters[name];
    const known = Number.isInteger(b) && b >= 1 && b <= adapter.r;
    if (!known) throw new RangeError(`rank ${b} is out of range: expected a whole number from 1 to ${adapter.r}`);
    let x = embedded(pixels);
    base.layers.forEach((layer, n) => {
      const rows = n === layers - 1 ? 1 : tokens; // of the last layer, the class token alone is read
      x = block(x, rows, layer, adapter, adapter.layers[n], b);
    });
    return Array.from(linear(normed(x, base.norm), 1, adapter.classifier));
  };

  const digit = (n) => scans.subarray(n * image * image, (n + 1) * image * image);

  return { facts, adapters, image, total: facts.labels.length, ranks: adapters.dylora.r, logits, softmax, digit };
})();
