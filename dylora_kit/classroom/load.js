// Stands in for RequireJS, jQuery and MathJax, which nbconvert's page asks for and these slides do not need:
// the formulas are pictures, so all that is loaded is reveal.js and its notes.
window.require = function (options, addresses, then) {
  const [next, ...rest] = addresses;
  if (next === undefined) {
    const { Reveal, RevealNotes } = window;
    const begin = Reveal.initialize.bind(Reveal);
    Reveal.initialize = (wishes) => begin({ ...wishes, center: false, margin: 0 });
    then(Reveal, RevealNotes);
    return;
  }
  const script = document.createElement("script");
  script.src = next;
  script.onload = () => window.require(options, rest, then);
  script.onerror = () => {
    document.body.insertAdjacentHTML("afterbegin", "<p>The slides cannot find " + next + ": see README.md.</p>");
  };
  document.head.append(script);
};
window.MathJax = { Hub: { Config() {}, Queue() {}, Rerender() {}, getAllJax: () => null } };
