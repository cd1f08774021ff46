package flow360;

import java.security.NoSuchAlgorithmException;
import java.util.List;
import java.util.Map;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.NameCallback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.common.errors.SaslAuthenticationException;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.scram.ScramCredential;
import org.apache.kafka.common.security.scram.ScramCredentialCallback;
import org.apache.kafka.common.security.scram.internals.ScramFormatter;
import org.apache.kafka.common.security.scram.internals.ScramMechanism;

/**
 * What the broker compares a login with. Kafka itself looks for it in ZooKeeper, where somebody would have to put it
 * before the broker's first start. By SCRAM, a client shows that it knows the password and does not send it.
 */
public final class Passwords implements AuthenticateCallbackHandler {
    private static final int ITERATIONS = 4096;
    private ScramCredential ours;

    @Override
    public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {
        try {
            String password = String.valueOf(entries.get(0).getOptions().get("password"));
            ours = new ScramFormatter(ScramMechanism.forMechanismName(mechanism)).generateCredential(password, ITERATIONS);
        } catch (NoSuchAlgorithmException error) {
            throw new SaslAuthenticationException("this Java has no " + mechanism, error);
        }
    }

    @Override
    public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
        String user = null;
        for (Callback callback : callbacks) {
            if (callback instanceof NameCallback) {
                user = ((NameCallback) callback).getDefaultName();
            } else if (callback instanceof ScramCredentialCallback) {
                if (Logins.USER.equals(user)) {
                    ((ScramCredentialCallback) callback).scramCredential(ours);
                }
            } else {
                throw new UnsupportedCallbackException(callback);
            }
        }
    }

    @Override
    public void close() {}
}
