package flow360;

import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.stream.Collectors;
import org.apache.kafka.common.Endpoint;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.errors.SecurityDisabledException;
import org.apache.kafka.common.security.auth.KafkaPrincipal;
import org.apache.kafka.server.authorizer.AclCreateResult;
import org.apache.kafka.server.authorizer.AclDeleteResult;
import org.apache.kafka.server.authorizer.Action;
import org.apache.kafka.server.authorizer.AuthorizableRequestContext;
import org.apache.kafka.server.authorizer.AuthorizationResult;
import org.apache.kafka.server.authorizer.Authorizer;
import org.apache.kafka.server.authorizer.AuthorizerServerInfo;

/**
 * What a client without a login may do: everything with its own topics and groups; nothing with what Kafka Connect
 * keeps (in its topic of configurations stands what the worker runs), and nothing that the broker itself does. What was
 * captured of the databases it may read and not change: a row that is invented there is one that every reader believes.
 *
 * <p>A rule in the place of ACLs: those would have to be written before anybody else writes some.
 */
public final class Doors implements Authorizer {
    private static final String CONNECT = "connect-";
    private static final String INTERNAL = "__";
    private static final List<String> CAPTURED =
            List.of(
                    "cdc.shop.", "cdc.heartbeat.cdc.shop",
                    "cdc.fleet.", "cdc.heartbeat.cdc.fleet",
                    "cdc.catalogue.", "cdc.heartbeat.cdc.catalogue");
    private static final Set<AclOperation> LOOK =
            EnumSet.of(AclOperation.READ, AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS);
    private static final Set<AclOperation> OF_THE_CLUSTER =
            EnumSet.of(AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS, AclOperation.IDEMPOTENT_WRITE);

    /** Whether somebody who has not logged in may do this. */
    static boolean open(Action action) {
        String name = action.resourcePattern().name();
        AclOperation operation = action.operation();
        switch (action.resourcePattern().resourceType()) {
            case TOPIC:
                boolean readOnly = name.startsWith(INTERNAL) || CAPTURED.stream().anyMatch(name::startsWith);
                return !name.startsWith(CONNECT) && (!readOnly || LOOK.contains(operation));
            case GROUP:
            case TRANSACTIONAL_ID:
                return !name.startsWith(CONNECT) || operation == AclOperation.DESCRIBE;
            case CLUSTER:
                // Not CREATE, which would hold for every name: of a topic, its own name is asked for then.
                return OF_THE_CLUSTER.contains(operation);
            default:
                return false;
        }
    }

    @Override
    public List<AuthorizationResult> authorize(AuthorizableRequestContext request, List<Action> actions) {
        boolean known = !KafkaPrincipal.ANONYMOUS.equals(request.principal());
        return actions.stream()
                .map(action -> known || open(action) ? AuthorizationResult.ALLOWED : AuthorizationResult.DENIED)
                .collect(Collectors.toList());
    }

    @Override
    public Map<Endpoint, ? extends CompletionStage<Void>> start(AuthorizerServerInfo server) {
        return server.endpoints().stream()
                .collect(Collectors.toMap(endpoint -> endpoint, endpoint -> CompletableFuture.completedFuture(null)));
    }

    @Override
    public List<? extends CompletionStage<AclCreateResult>> createAcls(
            AuthorizableRequestContext request, List<AclBinding> bindings) {
        throw new SecurityDisabledException("this broker keeps no ACLs: its rule stands in stack/kafka");
    }

    @Override
    public List<? extends CompletionStage<AclDeleteResult>> deleteAcls(
            AuthorizableRequestContext request, List<AclBindingFilter> filters) {
        throw new SecurityDisabledException("this broker keeps no ACLs: its rule stands in stack/kafka");
    }

    @Override
    public Iterable<AclBinding> acls(AclBindingFilter filter) {
        return List.of();
    }

    @Override
    public void configure(Map<String, ?> configs) {}

    @Override
    public void close() {}
}
