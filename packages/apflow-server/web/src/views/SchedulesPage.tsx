export function SchedulesPage() { return <div />; }
