import java.nio.charset.StandardCharsets;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.TimeUnit;
import okhttp3.Dispatcher;
import okhttp3.MediaType;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.RequestBody;
import okhttp3.Response;
import okhttp3.sse.EventSource;
import okhttp3.sse.EventSourceListener;
import okhttp3.sse.EventSources;

/**
 * Follows streams with okhttp-sse, and prints each event as a line of JSON.
 *
 * <p>Arguments: RUN URL, repeated. For a POST the URL begins with {@code POST }, and the body is in
 * the environment variable BODY. okhttp-sse leaves it to its user to begin again.
 */
public final class Follow {
  // The default read timeout of ten seconds would end a stream that is silent for as long.
  private static final OkHttpClient CLIENT =
      new OkHttpClient.Builder()
          .readTimeout(0, TimeUnit.SECONDS)
          .dispatcher(dispatcher())
          .build();
  private static final Timer TIMER = new Timer();

  // By default a sixth stream of one host waits until another one has ended.
  private static Dispatcher dispatcher() {
    Dispatcher dispatcher = new Dispatcher();
    dispatcher.setMaxRequestsPerHost(100);
    return dispatcher;
  }

  private static synchronized void print(String line) {
    System.out.println(line);
    System.out.flush();
  }

  private static String quoted(String text) {
    return text == null
        ? "\"\""
        : '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + '"';
  }

  private static void open(String run, String url, String lastEventId) {
    boolean isPost = url.startsWith("POST ");
    Request.Builder request = new Request.Builder().url(isPost ? url.substring(5) : url);
    if (isPost) {
      MediaType json = MediaType.get("application/json");
      request.post(RequestBody.create(System.getenv("BODY").getBytes(StandardCharsets.UTF_8), json));
      request.header("Idempotency-Key", System.getenv("KEY"));
    }
    if (!lastEventId.isEmpty()) {
      request.header("Last-Event-ID", lastEventId);
    }
    EventSourceListener listener =
        new EventSourceListener() {
          private String last = lastEventId;

          @Override
          public void onEvent(EventSource source, String id, String type, String data) {
            if (id != null) {
              last = id;
            }
            print(
                "{\"run\":" + quoted(run) + ",\"id\":" + quoted(id)
                    + ",\"type\":" + quoted(type == null ? "message" : type)
                    + ",\"data\":" + quoted(data) + "}");
          }

          @Override
          public void onClosed(EventSource source) {
            again();
          }

          @Override
          public void onFailure(EventSource source, Throwable error, Response response) {
            if (response != null && response.code() == 204) {
              print("{\"run\":" + quoted(run) + ",\"stopped\":true}");
            } else {
              again();
            }
          }

          private void again() {
            TIMER.schedule(
                new TimerTask() {
                  @Override
                  public void run() {
                    open(run, url, last);
                  }
                },
                20);
          }
        };
    EventSources.createFactory(CLIENT).newEventSource(request.build(), listener);
  }

  public static void main(String[] arguments) {
    for (int i = 0; i + 1 < arguments.length; i += 2) {
      open(arguments[i], arguments[i + 1], "");
    }
  }
}
