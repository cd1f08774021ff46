package flow360;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Base64;
import java.util.Map;
import javax.ws.rs.container.ContainerRequestContext;
import javax.ws.rs.container.ContainerRequestFilter;
import javax.ws.rs.container.PreMatching;
import javax.ws.rs.core.HttpHeaders;
import javax.ws.rs.core.Response;
import org.apache.kafka.connect.rest.ConnectRestExtension;
import org.apache.kafka.connect.rest.ConnectRestExtensionContext;

/**
 * The login of Kafka Connect's REST API: every request needs it, and none may come from a page of another site. Kafka's
 * own extension lets some paths through, for workers that talk to each other; ours is one.
 */
public final class Rest implements ConnectRestExtension {
    @Override
    public void register(ConnectRestExtensionContext context) {
        context.configurable().register(new Login(System.getenv("KAFKA_CONNECT_PASSWORD")));
    }

    @PreMatching
    private static final class Login implements ContainerRequestFilter {
        private final byte[] expected;

        Login(String password) {
            if (password == null || password.isEmpty()) {
                throw new IllegalStateException("KAFKA_CONNECT_PASSWORD is not set");
            }
            byte[] login = (Logins.USER + ":" + password).getBytes(StandardCharsets.UTF_8);
            expected = ("Basic " + Base64.getEncoder().encodeToString(login)).getBytes(StandardCharsets.UTF_8);
        }

        @Override
        public void filter(ContainerRequestContext request) {
            String told = request.getHeaderString(HttpHeaders.AUTHORIZATION);
            if (told == null || !MessageDigest.isEqual(expected, told.getBytes(StandardCharsets.UTF_8))) {
                request.abortWith(answer(Response.Status.UNAUTHORIZED, "the password stands in .env"));
            } else if (request.getHeaderString("Origin") != null) {
                request.abortWith(answer(Response.Status.FORBIDDEN, "no page may ask"));
            }
        }

        private static Response answer(Response.Status status, String message) {
            String body = "{\"error_code\":" + status.getStatusCode() + ",\"message\":\"" + message + "\"}";
            return Response.status(status).header("Content-Type", "application/json").entity(body).build();
        }
    }

    @Override
    public String version() {
        return "1";
    }

    @Override
    public void configure(Map<String, ?> configs) {}

    @Override
    public void close() {}
}
