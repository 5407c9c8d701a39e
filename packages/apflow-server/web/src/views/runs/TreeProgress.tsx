/** The tasks of a tree by state, as one bar. */
import type { TreeStateResult } from "../../api/_generated_operations";
import { countText } from "../../model/format";
import { STATUSES, STATUS_TEXT } from "../../model/status";

const ORDER = ["completed", "skipped", "failed", "cancelled", "in_progress", "pending"] as const;

export function TreeProgress({ tree }: { tree: TreeStateResult | null }) {
  if (tree === null) return null;
  const text = STATUSES.filter((status) => tree.by_status[status]).map((status) => `${countText(tree.by_status[status] ?? 0)} ${STATUS_TEXT[status].toLowerCase()}`).join(", ");
  let left = 0;
  return (
    <span class="tree-progress" title={text}>
      <svg class="progress-bar" role="img" aria-label={text}>
        {ORDER.map((status) => {
          const width = ((tree.by_status[status] ?? 0) / Math.max(1, tree.total)) * 100;
          const x = left;
          left += width;
          return width > 0 && <rect key={status} class={`bar is-${status}`} x={`${x}%`} width={`${width}%`} height="100%" />;
        })}
      </svg>
      <span class="faint">{countText(tree.total)}</span>
    </span>
  );
}
