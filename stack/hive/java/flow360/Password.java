package flow360;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import javax.security.sasl.AuthenticationException;
import org.apache.hive.service.auth.PasswdAuthenticationProvider;

/** Lets in who knows the password of `.env`. HiveServer2 itself knows directory servers, PAM, or no password at all. */
public final class Password implements PasswdAuthenticationProvider {
    @Override
    public void Authenticate(String user, String password) throws AuthenticationException {
        String ours = System.getenv("HIVE_SERVER_PASSWORD");
        if (ours == null || ours.isEmpty() || password == null
                || !MessageDigest.isEqual(ours.getBytes(StandardCharsets.UTF_8), password.getBytes(StandardCharsets.UTF_8))) {
            throw new AuthenticationException("wrong password: HIVE_SERVER_PASSWORD stands in .env");
        }
    }
}
