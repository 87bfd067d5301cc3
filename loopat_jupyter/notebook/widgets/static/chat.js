/**
 * The widget LoopChat, in the form of an anywidget module: one session for each model, one view for
 * each place where it is displayed. The session is connected while there is a view.
 */
import { ChatView } from "./views/chat_view.js";
import { Session } from "./state/session.js";

function loopChat() {
  let session = null;
  let views = 0;
  return {
    initialize({ model }) {
      session = new Session(model, document);
      return () => session.stop();
    },
    render({ el }) {
      const view = new ChatView(session);
      el.append(view.el);
      views += 1;
      session.start();
      return () => {
        view.close();
        views -= 1;
        if (views === 0) session.stop();
      };
    },
  };
}

export default loopChat;
