// The calculator of deploy/sizing.md. The numbers in it are explained there.

function sizing({ sessions, workers, threads, sessionKiB, workerMiB }) {
  const each = Math.ceil(sessions / workers);
  const connections = each + 2 * threads;
  return {
    "worker_connections": connections,
    "LimitNOFILE (descriptors of a worker)": 2 * connections + 50,
    "TasksMax (threads of all workers)": workers * (2 * each + threads + 10),
    "vm.max_map_count": Math.max(65530, 4 * each + 5000),
    "memory, MiB": Math.ceil(workers * workerMiB + (sessions * sessionKiB) / 1024),
    "pings and pongs a second": Math.ceil((2 * sessions) / 20),
  };
}

function showSizing(form, table) {
  const values = Object.fromEntries(
    [...new FormData(form)].map(([name, text]) => [name, Math.max(1, Number(text) || 1)]),
  );
  table.replaceChildren(
    ...Object.entries(sizing(values)).map(([name, value]) => {
      const row = document.createElement("tr");
      row.append(
        Object.assign(document.createElement("td"), { textContent: name }),
        Object.assign(document.createElement("td"), { textContent: value.toLocaleString("en") }),
      );
      return row;
    }),
  );
}

document.addEventListener("DOMContentLoaded", () => {
  const form = document.getElementById("sizing");
  if (form) {
    const table = document.getElementById("sizing-result");
    form.addEventListener("input", () => showSizing(form, table));
    showSizing(form, table);
  }
});
