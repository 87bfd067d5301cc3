/**
 * The widget LoopChat, as anywidget takes it: one session for the model, one view for each place
 * where it is shown. The session lives while somebody looks.
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
