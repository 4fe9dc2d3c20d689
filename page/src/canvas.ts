// The same scene on a canvas, for graphs with too many boxes for SVG; only what is in view is drawn.

import type { View } from "./graph";
import { BOX, route, type Box, type Scene } from "./scene";

export function paint(
  canvas: HTMLCanvasElement, scene: Scene, view: View, width: number, height: number, status: (box: Box) => string,
): void {
  const scale = devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext("2d");
  if (!context) return;
  const style = getComputedStyle(canvas);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  context.scale(scale, scale);
  context.translate(view.x, view.y);
  context.scale(view.k, view.k);
  const [left, right] = [-view.x / view.k - BOX.width, (width - view.x) / view.k + BOX.width];
  const [top, bottom] = [-view.y / view.k - BOX.height, (height - view.y) / view.k + BOX.height];
  const inView = (b: Box) => b.x > left && b.x < right && b.y > top && b.y < bottom;
  for (const edge of scene.edges) {
    if (!inView(edge.from) && !inView(edge.to)) continue;
    context.strokeStyle = colour(`--edge-${edge.kind}`);
    context.lineWidth = 1.5;
    context.setLineDash(edge.kind === "saved" ? [3, 4] : []);
    context.stroke(new Path2D(route(edge)));
  }
  context.setLineDash([]);
  const words = view.k > 0.35;
  for (const box of scene.boxes) if (inView(box)) block(context, box, status(box), colour, words);
}

function block(context: CanvasRenderingContext2D, box: Box, status: string, colour: (name: string) => string, words: boolean): void {
  const [x, y] = [box.x - BOX.width / 2, box.y - BOX.height / 2];
  context.globalAlpha = status === "pending" ? 0.45 : 1;
  context.fillStyle = colour("--card");
  context.strokeStyle = colour(status === "selected" || status === "focused" || status === "current" ? "--accent" : "--border");
  context.lineWidth = status === "selected" || status === "focused" || status === "current" ? 3 : 1;
  context.beginPath();
  context.roundRect(x, y, BOX.width, BOX.height, 7);
  context.fill();
  context.stroke();
  if (words) {
    context.fillStyle = colour("--ink");
    context.font = "600 12px system-ui, sans-serif";
    context.fillText(box.label, x + 8, y + 18, BOX.width - 16);
    context.fillStyle = colour("--quiet");
    context.font = "11px system-ui, sans-serif";
    context.fillText(box.detail, x + 8, y + 34, BOX.width - 16);
  }
  context.globalAlpha = 1;
}
