// Which model's machines stand out: chosen in the chat or in the list of models, shown by the drawing.
class Lit extends EventTarget {
  model = "";

  set(model) {
    if (this.model === model) return;
    this.model = model;
    this.dispatchEvent(new Event("change"));
  }
}

export const lit = new Lit();
