// Brings live pages up to date and shows times in the reader's zone. Everything works without it.
"use strict";

function localTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    if (!Number.isNaN(at.getTime())) element.textContent = at.toLocaleString();
  }
}

function refresh(main) {
  if (document.hidden) return Promise.resolve();
  return fetch(location.href, {headers: {Accept: "text/html"}, credentials: "same-origin"})
    .then((answer) => (answer.ok && !answer.redirected ? answer.text() : Promise.reject(answer.status)))
    .then((text) => {
      const fresh = new DOMParser().parseFromString(text, "text/html").querySelector("main");
      if (fresh && !main.contains(document.activeElement)) {
        localTimes(fresh);
        main.replaceChildren(...fresh.childNodes);
      }
      main.classList.remove("stale");
    })
    .catch(() => main.classList.add("stale"));
}

localTimes(document);
const main = document.querySelector("main[data-live]");
if (main) {
  const every = 1000 * Number(main.dataset.live);
  const again = () => refresh(main).then(() => setTimeout(again, every));
  setTimeout(again, every);
}
