/** The height of a row of the table of tasks, in pixels; also in `run.css`. */
export const ROW_HEIGHT = 28;
