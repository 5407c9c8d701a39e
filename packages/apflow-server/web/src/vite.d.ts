declare module "*?worker" {
  const StreamWorker: new () => Worker;
  export default StreamWorker;
}

declare module "*.css";
