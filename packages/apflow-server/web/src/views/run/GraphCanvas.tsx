/** The drawing of a graph: it is moved by dragging and the arrow keys, and scaled by the wheel, + and -. */
import { useEffect, useRef, useState } from "preact/hooks";
import { Button } from "../../components/Button";
import { STATUS_TEXT } from "../../model/status";
import type { Box, Drawing, Line } from "../../model/graph";
import { titleOf } from "../../model/task_node";
import type { RunView } from "../../stores/run_view";

interface Camera {
  x: number;
  y: number;
  scale: number;
}

const MARGIN = 24;
const MAX_SCALE = 2.5;
const MIN_SCALE = 0.02;
const STEP = 80; // pixels by which an arrow key moves
const READABLE = 0.55; // the scale from which names are shown

export function GraphCanvas({ view, drawing, onOpen }: { view: RunView; drawing: Drawing; onOpen: (id: string) => void }) {
  const element = useRef<SVGSVGElement>(null);
  const [size, setSize] = useState({ width: 800, height: 500 });
  const [camera, setCamera] = useState<Camera | null>(null);
  const drag = useRef<{ x: number; y: number; hasMoved: boolean } | null>(null);
  useEffect(() => {
    const svg = element.current;
    if (svg === null) return;
    const observer = new ResizeObserver(() => setSize({ width: svg.clientWidth, height: svg.clientHeight }));
    observer.observe(svg);
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      const box = svg.getBoundingClientRect();
      setCamera((old) => scaled(old ?? fitted(drawing, svg.clientWidth, svg.clientHeight), Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top));
    };
    svg.addEventListener("wheel", wheel, { passive: false });
    return () => (observer.disconnect(), svg.removeEventListener("wheel", wheel));
  }, [drawing]);
  const at = camera ?? fitted(drawing, size.width, size.height);
  const zoom = (factor: number) => setCamera(scaled(at, factor, size.width / 2, size.height / 2));
  const keys: Record<string, () => void> = {
    ArrowLeft: () => setCamera({ ...at, x: at.x + STEP }),
    ArrowRight: () => setCamera({ ...at, x: at.x - STEP }),
    ArrowUp: () => setCamera({ ...at, y: at.y + STEP }),
    ArrowDown: () => setCamera({ ...at, y: at.y - STEP }),
    "+": () => zoom(1.25),
    "-": () => zoom(0.8),
    "0": () => setCamera(null),
  };
  view.store.tick.value;
  const shown = inSight(drawing, at, size);
  return (
    <div class="graph-canvas">
      <svg
        ref={element}
        class={`graph-svg${at.scale < READABLE ? " is-small" : ""}`}
        role="img"
        aria-label={`Graph of ${drawing.boxes.length} tasks. The timeline lists the same tasks.`}
        tabindex={0}
        onKeyDown={(event) => keys[event.key] && (event.preventDefault(), event.stopPropagation(), keys[event.key]?.())}
        onPointerDown={(event) => (drag.current = { x: event.clientX, y: event.clientY, hasMoved: false })}
        onPointerMove={(event) => {
          const from = drag.current;
          if (from === null || event.buttons === 0) return;
          const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
          if (!from.hasMoved && Math.hypot(dx, dy) < 4) return;
          drag.current = { x: event.clientX, y: event.clientY, hasMoved: true };
          setCamera({ ...at, x: at.x + dx, y: at.y + dy });
        }}
      >
        <g transform={`translate(${at.x} ${at.y}) scale(${at.scale})`}>
          {shown.lines.map((line) => <GraphLine key={`${line.edge.from} ${line.edge.to}`} line={line} pointed={view.pointed.value} />)}
          {shown.boxes.map((box) => (
            <GraphBox key={box.id} box={box} view={view} onOpen={() => drag.current?.hasMoved || onOpen(box.id)} />
          ))}
        </g>
      </svg>
      <span class="button-group graph-zoom" role="group" aria-label="Size of the graph">
        <Button label="Smaller" onClick={() => zoom(0.8)}>−</Button>
        <Button label="Fit" onClick={() => setCamera(null)}>Fit</Button>
        <Button label="Larger" onClick={() => zoom(1.25)}>+</Button>
      </span>
    </div>
  );
}

const CHARACTER = 6.6; // pixels, about

function GraphBox({ box, view, onOpen }: { box: Box; view: RunView; onOpen: () => void }) {
  const node = view.store.nodes.get(box.id);
  if (node === undefined) return null;
  const name = titleOf(node);
  const room = Math.floor((box.width - 28) / CHARACTER);
  return (
    <g
      class={`graph-box is-${node.status}${view.active.value === box.id ? " is-active" : ""}`}
      transform={`translate(${box.x} ${box.y})`}
      onClick={() => ((view.active.value = box.id), onOpen())}
      onMouseEnter={() => (view.pointed.value = box.id)}
      onMouseLeave={() => (view.pointed.value = null)}
    >
      <title>{`${name}: ${STATUS_TEXT[node.status]}${node.error ? `. ${node.error}` : ""}`}</title>
      <rect width={box.width} height={box.height} rx={6} />
      <rect class="graph-mark" width={5} height={box.height} rx={2.5} />
      {room > 2 && <text x={14} y={box.height / 2 + 4}>{name.length > room ? `${name.slice(0, room - 1)}…` : name}</text>}
    </g>
  );
}

function GraphLine({ line, pointed }: { line: Line; pointed: string | null }) {
  const isPointed = pointed !== null && (line.edge.from === pointed || line.edge.to === pointed);
  const path = line.points.map((point, at) => `${at === 0 ? "M" : "L"}${point.x.toFixed(1)} ${point.y.toFixed(1)}`).join("");
  return <path class={`graph-line${line.edge.isHolding ? " is-holding" : ""}${isPointed ? " is-pointed" : ""}`} d={path} />;
}

function fitted(drawing: Drawing, width: number, height: number): Camera {
  const scale = Math.max(MIN_SCALE, Math.min(1, (width - 2 * MARGIN) / Math.max(1, drawing.width), (height - 2 * MARGIN) / Math.max(1, drawing.height)));
  return { scale, x: Math.max(MARGIN, (width - drawing.width * scale) / 2), y: Math.max(MARGIN, (height - drawing.height * scale) / 2) };
}

function scaled(camera: Camera, factor: number, x: number, y: number): Camera {
  const scale = Math.max(MIN_SCALE, Math.min(MAX_SCALE, camera.scale * factor));
  const by = scale / camera.scale;
  return { scale, x: x - (x - camera.x) * by, y: y - (y - camera.y) * by };
}

/** Return what of a drawing is in sight: a graph may have thousands of boxes. */
function inSight(drawing: Drawing, { x, y, scale }: Camera, size: { width: number; height: number }): Drawing {
  const [left, top] = [-x / scale, -y / scale];
  const [right, bottom] = [left + size.width / scale, top + size.height / scale];
  const isIn = (box: { x: number; y: number; width: number; height: number }) => box.x < right && box.x + box.width > left && box.y < bottom && box.y + box.height > top;
  const boxes = drawing.boxes.filter(isIn);
  const lines = drawing.lines.filter(({ points }) => {
    const [xs, ys] = [points.map((point) => point.x), points.map((point) => point.y)];
    const [x0, y0] = [Math.min(...xs), Math.min(...ys)];
    return isIn({ x: x0, y: y0, width: Math.max(...xs) - x0 + 1, height: Math.max(...ys) - y0 + 1 });
  });
  return { ...drawing, boxes, lines };
}
