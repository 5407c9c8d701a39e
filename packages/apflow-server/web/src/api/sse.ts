/** Frames of `text/event-stream` (HTML Living Standard, section 9.2.6). Pure. */

export interface Frame {
  event: string;
  id: string | null;
  data: string;
}

/** Reads a stream piece by piece. A frame may come in any number of pieces, and be megabytes long. */
export class FrameReader {
  private readonly unfinished: string[] = [];
  private event = "";
  private id: string | null = null;
  private data: string[] = [];

  /** Return the frames that end in this piece. */
  read(piece: string): Frame[] {
    const frames: Frame[] = [];
    let from = 0;
    for (let end = piece.indexOf("\n"); end >= 0; end = piece.indexOf("\n", from)) {
      this.unfinished.push(piece.slice(from, end));
      const line = this.unfinished.join("");
      this.unfinished.length = 0;
      const frame = this.readLine(line.endsWith("\r") ? line.slice(0, -1) : line);
      if (frame !== null) frames.push(frame);
      from = end + 1;
    }
    if (from < piece.length) this.unfinished.push(piece.slice(from));
    return frames;
  }

  private readLine(line: string): Frame | null {
    if (line === "") return this.finish();
    const colon = line.indexOf(":");
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "event") this.event = value;
    else if (field === "data") this.data.push(value);
    else if (field === "id") this.id = value;
    return null;
  }

  private finish(): Frame | null {
    const frame = { event: this.event || "message", id: this.id, data: this.data.join("\n") };
    const isEmpty = this.data.length === 0;
    this.event = "";
    this.id = null;
    this.data = [];
    return isEmpty ? null : frame;
  }
}
