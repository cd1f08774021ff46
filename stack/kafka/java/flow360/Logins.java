package flow360;

import java.util.Map;
import javax.security.auth.login.AppConfigurationEntry;
import javax.security.auth.login.AppConfigurationEntry.LoginModuleControlFlag;
import javax.security.auth.login.Configuration;

/**
 * Who logs in where: passwords out of the environment, so that no file and no command line holds one. Where there is none
 * there is no login, and then nobody gets in.
 */
public final class Logins extends Configuration {
    static final String USER = "primeur";
    private static final String DIGEST = "org.apache.zookeeper.server.auth.DigestLoginModule";
    private static final String SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule";

    @Override
    public AppConfigurationEntry[] getAppConfigurationEntry(String context) {
        String zookeeper = System.getenv("ZOOKEEPER_PASSWORD");
        String kafka = System.getenv("KAFKA_PASSWORD");
        switch (context) {
            case "Server": // ZooKeeper, for those who come
                return zookeeper == null ? null : entry(DIGEST, Map.of("user_" + USER, zookeeper));
            case "Client": // the broker, when it comes there
                return zookeeper == null ? null : entry(DIGEST, Map.of("username", USER, "password", zookeeper));
            case "KafkaServer": // the broker, for those who come and when it comes to itself
            case "KafkaClient":
                return kafka == null ? null : entry(SCRAM, Map.of("username", USER, "password", kafka));
            default:
                return null;
        }
    }

    private static AppConfigurationEntry[] entry(String module, Map<String, String> options) {
        return new AppConfigurationEntry[] {
            new AppConfigurationEntry(module, LoginModuleControlFlag.REQUIRED, options)
        };
    }
}
