// A prebuilt extension of JupyterLab as its loader wants one (init, get), written by hand: no build step, no bundle.
// It puts /flow360/home into a tab and opens what is clicked there. (Tabs keep the names of their files: JupyterLab takes
// a document's new title for its new name, and renames the file.)
"use strict";

(() => {
  const ID = "flow360-home";
  const MINE = /^work\/(notebooks|labs)\/\w+\.ipynb$/;
  let shared; // JupyterLab's own modules: name -> version -> how to get it

  async function take(name) {
    const versions = Object.values(shared[name]);
    return (await (versions.find((one) => one.loaded) || versions[0]).get())();
  }

  function makeHome(Widget, base) {
    const frame = document.createElement("iframe");
    frame.src = `${base}flow360/home`;
    frame.title = "Home";
    frame.style.cssText = "border: 0; width: 100%; height: 100%; display: block;";
    const home = new Widget();
    home.id = ID;
    Object.assign(home.title, { label: "Home", caption: "Where you stand, what runs, what is next", closable: true });
    home.node.append(frame);
    const follow = () => {
      const page = frame.contentDocument?.documentElement;
      if (page) page.dataset.theme = document.body.dataset.jpThemeLight === "false" ? "dark" : "light";
    };
    frame.addEventListener("load", follow);
    const theme = new MutationObserver(follow);
    theme.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
    home.disposed.connect(() => theme.disconnect());
    home.frame = frame;
    return home;
  }

  async function openBeside(app, paths) {
    const [lesson, lab] = paths;
    const left = await app.commands.execute("docmanager:open", { path: lesson });
    await app.commands.execute("docmanager:open", { path: lab, options: { mode: "split-right", ref: left?.id } });
    if (left) app.shell.activateById(left.id);
  }

  function activate({ Widget, PageConfig }, app, palette, launcher, restorer) {
    let home = null;
    const open = (activate) => {
      if (!home || home.isDisposed) home = makeHome(Widget, PageConfig.getBaseUrl());
      if (!home.isAttached) app.shell.add(home, "main");
      if (activate) app.shell.activateById(ID);
    };
    app.commands.addCommand("flow360:home", { label: "Home", caption: "The course's home", execute: () => open(true) });
    palette?.addItem({ command: "flow360:home", category: "Course" });
    launcher?.add({ command: "flow360:home", category: "Other", rank: 0 });
    home = makeHome(Widget, PageConfig.getBaseUrl());
    restorer?.add(home, ID); // where a workspace has it, it comes back to its place

    window.addEventListener("message", (event) => {
      if (event.origin !== location.origin || !home || event.source !== home.frame.contentWindow) return;
      const { flow360, paths } = event.data ?? {};
      if (flow360 === "open" && paths?.length === 2 && paths.every((path) => MINE.test(path))) openBeside(app, paths);
    });
    app.restored.then(() => {
      const known = home.isAttached; // then the workspace says which tab is in front
      open(!known && !PageConfig.getOption("treePath"));
    });
  }

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[ID] = {
    init: (scope) => {
      shared = scope;
    },
    get: async () => {
      const names = ["@lumino/widgets", "@jupyterlab/coreutils", "@jupyterlab/apputils", "@jupyterlab/launcher", "@jupyterlab/application"];
      const [{ Widget }, { PageConfig }, { ICommandPalette }, { ILauncher }, { ILayoutRestorer }] = await Promise.all(names.map(take));
      const plugin = {
        id: `${ID}:plugin`,
        description: "Home in a tab of JupyterLab.",
        autoStart: true,
        optional: [ICommandPalette, ILauncher, ILayoutRestorer],
        activate: (...given) => activate({ Widget, PageConfig }, ...given),
      };
      return () => ({ __esModule: true, default: plugin });
    },
  };
})();
