/** Doing something once before the next paint, however often it is requested. */

export interface Soon {
  request(): void;
  cancel(): void;
}

export function frameSoon(does: () => void): Soon {
  let frame = 0;
  return {
    request: () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        does();
      });
    },
    cancel: () => {
      cancelAnimationFrame(frame);
      frame = 0;
    },
  };
}
